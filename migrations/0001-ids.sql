-- Functions that generate keys. Column defaults depend on them, so they are created by a migration and not by a file of sql/functions.
set local search_path = app;

-- UUID version 7 (RFC 9562): it begins with the milliseconds since 1970, so that new rows are added at the end of every index.
create function uuid7() returns uuid
language sql volatile parallel safe
return (
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;

-- 64 random bits: a sequence would reveal to one organization how many claims all others have.
create function new_claim_number() returns text
language sql volatile parallel safe
return 'CLM-' || upper(right(replace(gen_random_uuid()::text, '-', ''), 16));

-- The caller's organization. It raises without a context, so that a missing context is an error and not an empty list.
create function organization_id() returns uuid
language sql stable parallel safe
return current_setting('app.organization_id')::uuid;

grant execute on function uuid7, new_claim_number, organization_id to public;
