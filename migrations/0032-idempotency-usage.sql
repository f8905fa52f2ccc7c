-- How much is kept of answers for idempotency keys, by organization: measured now and then, since a sum that each request added to would
-- have the requests of an organization wait for each other.
set local search_path = app;
-- Unlogged: a crash forgets what was measured, and the next answer that is kept measures anew.
create unlogged table auth.idempotency_usage (
    organization_id uuid primary key,
    full_until timestamptz,
    measured_again timestamptz not null
);
alter table auth.idempotency_usage enable row level security, force row level security;
comment on table auth.idempotency_usage is 'What app.store_response found when it measured an organization''s answers last.';
comment on column auth.idempotency_usage.full_until is 'When enough of them are an hour old to go, so that the rest fits; null where it fits already.';
comment on column auth.idempotency_usage.measured_again is 'Not measured again before.';

-- The API compresses them: PostgreSQL leaves a body of a few hundred bytes as it is, and would only try in vain what is compressed.
alter table idempotency_keys alter column body set storage external;
comment on column idempotency_keys.body is 'The answer, in zlib''s format; byte for byte once it is unpacked. It is given back to this user alone.';
