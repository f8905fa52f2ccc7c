-- Texts that people read: which ones are empty, and which numbers are well formed. app/http/schemas.py checks the same for requests;
-- tests/resources/test_texts.py compares both with the Unicode character database.

-- A number without white space at its ends, that of Unicode included.
create or replace function app.trim_number(number text) returns text
language sql immutable parallel safe
return btrim(number, e'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029'
                     '\u202f\u205f\u3000');

-- True if a text has no control character, no invisible one and no separator of lines or paragraphs: the categories Cc, Cf, Zl and Zp.
-- Most texts are printable ASCII, for which the first test is enough.
create or replace function app.is_clean_number(number text) returns boolean
language sql immutable parallel safe
return number ~ '^[ -~]*$' or number !~ ('[\u0001-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f'
    '\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3'
    '\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]');

-- True if a text contains more than white space and invisible characters.
create or replace function app.is_blank(content text) returns boolean
language sql immutable parallel safe
return content !~ '[!-~]' and content !~ ('[^\u0001-\u0020\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e'
    '\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f'
    '\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]');

-- The errors of a row's texts by API field; {} if there are none. names: texts that must not be blank. numbers: those that must also be
-- clean. Both are {"field": "text"}; null is no error.
create or replace function app.text_errors(names jsonb, numbers jsonb default '{}') returns jsonb
language sql immutable parallel safe set search_path = app, pg_catalog, pg_temp as $$
    select coalesce(jsonb_object_agg(field, jsonb_build_array(problem)), '{}')
    from (
        select key, case when is_blank(value) then 'Must not be blank'
                         when not is_clean_number(value) then 'Must not contain control or invisible characters' end
        from jsonb_each_text(numbers)
        union all
        select key, case when is_blank(value) then 'Must not be blank' end
        from jsonb_each_text(names)
    ) as checks (field, problem)
    where problem is not null
$$;

-- Trigger: rejects a row with a blank text. Its arguments are pairs of a column and its field in the API.
create or replace function app.refuse_blank() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    given jsonb := to_jsonb(new);
    names jsonb := '{}';
begin
    for i in 0 .. tg_nargs - 1 by 2 loop
        names := names || jsonb_build_object(tg_argv[i + 1], given -> tg_argv[i]);
    end loop;
    perform raise_invalid(text_errors(jsonb_strip_nulls(names)));
    return new;
end
$$;

grant execute on function app.trim_number, app.is_clean_number, app.is_blank, app.text_errors
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer;
