-- Search for diagnosis codes.

-- A text search query for all words of the search, each as a prefix: 'fem fract' finds the fracture of a femur. Null if it has no words.
create or replace function app.prefix_tsquery(search text) returns tsquery
language sql immutable strict parallel safe
return (
    select to_tsquery('english', string_agg(word || ':*', ' & '))
    from regexp_split_to_table(lower(search), '[^a-z0-9]+') as words (word)
    where word <> '');
grant execute on function app.prefix_tsquery to claims_admin, claims_processor, claims_provider, claims_patient;
