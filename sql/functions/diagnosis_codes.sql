-- Diagnosis codes: their search, their check for a claim, and the releases that they come from.

-- A text in lower case without accents and apostrophes: Sjögren's is sjogrens.
create or replace function app.plain_text(written text) returns text
language sql immutable parallel safe
return lower(regexp_replace(normalize(translate(written, '''’‘ʼ`´', ''), nfkd), '[\u0300-\u036f]+', '', 'g'));

-- The words of a description, and their stems. A word consists of letters and digits; COVID-19 is the words covid, 19 and covid19. All
-- other characters are removed first, because PostgreSQL's parser reads and/or as a path and -19 as a number. The index
-- diagnosis_codes_words has the same expression.
create or replace function app.description_words(description text) returns tsvector
language sql immutable parallel safe
return to_tsvector('simple', regexp_replace(regexp_replace(plain_text(description),
        '([a-z0-9]+)-([a-z0-9]+)', '\1 \2 \1\2', 'g'), '[^a-z0-9]+', ' ', 'g'))
    || to_tsvector('english', regexp_replace(plain_text(description), '[^a-z0-9]+', ' ', 'g'));

-- A text search query for all words of the search: 'fem fract' finds the fracture of a femur. A word finds each word that it begins, and
-- those with the same stem. Words such as "the" count only if there are no others. Null if there are no words.
create or replace function app.prefix_tsquery(search text) returns tsquery
language sql immutable strict parallel safe
return (
    select string_agg(coalesce('(' || word || ':* | ' || (ts_lexize('english_stem', word))[1] || ')', word || ':*'), ' & ')::tsquery
    from (
        select word, is_minor, every(is_minor) over () as all_minor
        from regexp_split_to_table(plain_text(search), '[^a-z0-9]+') as words (word),
            lateral (select word in ('an', 'and', 'at', 'by', 'for', 'from', 'in', 'is', 'of', 'on', 'or', 'the', 'to')) as m (is_minor)
        where word <> '') as words
    where not is_minor or all_minor);

-- The beginning of a code that the search may be; null if it is blank.
create or replace function app.code_prefix(search text) returns text
language sql immutable strict parallel safe
return icd10(nullif(regexp_replace(normalize(search, nfkc), '^\s+|\s+$', '', 'g'), ''));

grant execute on function app.plain_text, app.description_words, app.prefix_tsquery, app.code_prefix
    to claims_admin, claims_processor, claims_provider, claims_patient;

-- The error of a claim's diagnosis code on a day: whether the code is unknown, a header, or billable on other days. Null if there is none.
create or replace function app.diagnosis_code_error(p_code text, on_day date) returns text
language sql stable parallel safe
return case when not exists (
        select from diagnosis_codes d
        where d.code = p_code and d.billable and d.valid_from <= on_day and on_day < d.valid_until)
    then 'Must be a billable ICD-10-CM code valid on the service date' || coalesce((
        select ': ' || p_code || case
            when bool_or(d.billable) then format(' is billable %s, not on %s', (
                select string_agg(concat_ws(' ',
                        'from ' || nullif(lower(days), '-infinity'),
                        'to ' || nullif(upper(days), 'infinity') - 1), ' and ' order by days)
                from unnest(range_agg(daterange(d.valid_from, d.valid_until)) filter (where d.billable)) as days), on_day)
            else ' is a header, choose a code below it' end
        from diagnosis_codes d where d.code = p_code having count(*) > 0),
        ': there is no code ' || p_code)
end;
grant execute on function app.diagnosis_code_error
    to claims_admin, claims_processor, claims_provider, claims_system, claims_patient;

-- The release of each day: of those that contain it the one that began last, else the shipped one. A null means no release.
create or replace function app.diagnosis_release_days() returns table (release date, valid_from date, valid_until date)
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    with days as (
        select day from (select '-infinity'::date union select r.valid_from from schema_admin.diagnosis_releases r
                         union select r.valid_until from schema_admin.diagnosis_releases r) as all_days (day)
        where day < 'infinity'
    ), chosen as (
        select day, (
            select r.valid_from from schema_admin.diagnosis_releases r
            where r.shipped or r.valid_from <= day and day < r.valid_until
            order by r.valid_from <= day and day < r.valid_until desc, r.valid_from desc
            limit 1) as release
        from days
    ), changes as (
        select * from (select c.*, lag(c.release) over (order by c.day) as before from chosen c) as compared
        where release is distinct from before
    )
    select release, day, lead(day, 1, 'infinity') over (order by day) from changes
$$;

-- Makes diagnosis_codes from the releases: a row for each range of days on which a code has the same description and flag. Rows that
-- are right already remain untouched. The administrator calls it after a change of the releases.
create or replace function app.rebuild_diagnosis_codes() returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    create temporary table expected_codes on commit drop as
    with release_codes as (
        select r.valid_from as release, split_part(line, E'\t', 1) as code, split_part(line, E'\t', 2)::boolean as billable,
               split_part(line, E'\t', 3) as description
        from schema_admin.diagnosis_releases r, string_to_table(rtrim(r.codes, E'\n'), E'\n') as line
    ), spans as (
        select d.*, row_number() over (order by d.valid_from) as span from diagnosis_release_days() d
    ), numbered as (
        select c.code, c.billable, c.description, s.valid_from, s.valid_until,
               s.span - row_number() over (partition by c.code collate "C", c.billable, c.description collate "C" order by s.span) as run
        from spans s join release_codes c using (release)
    )
    select code, min(valid_from) as valid_from, max(valid_until) as valid_until, billable, description
    from numbered group by code, billable, description, run;
    analyze expected_codes;

    delete from diagnosis_codes d
    where not exists (select from expected_codes e where e.code = d.code and e.valid_from = d.valid_from);
    insert into diagnosis_codes as d (code, valid_from, valid_until, billable, description)
    select code, valid_from, valid_until, billable, description from expected_codes order by code collate "C", valid_from
    on conflict (code, valid_from) do update
        set valid_until = excluded.valid_until, billable = excluded.billable, description = excluded.description
        where (d.valid_until, d.billable, d.description) is distinct from (excluded.valid_until, excluded.billable, excluded.description);
    drop table expected_codes;
end
$$;
