-- What tables take their keys from; a function here is part of a column's default, so it is history and not state.
set local search_path = app;

-- UUID version 7 (RFC 9562): milliseconds since 1970 in front, so that new rows land at the end of every index.
create function uuid7() returns uuid
language sql volatile parallel safe
return (
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;

-- 64 random bits: a number that counted would tell one tenant how many claims all the others have.
create function new_claim_number() returns text
language sql volatile parallel safe
return 'CLM-' || upper(right(replace(gen_random_uuid()::text, '-', ''), 16));

-- The caller's organization. It raises when no context was entered: a forgotten context is an error, never an empty list.
create function organization_id() returns uuid
language sql stable parallel safe
return current_setting('app.organization_id')::uuid;

grant execute on function uuid7, new_claim_number, organization_id to public;
