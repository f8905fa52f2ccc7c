-- The size of stored responses for idempotency keys, by organization. It is measured at intervals: if each request updated a sum, the
-- requests of an organization would wait for each other.
set local search_path = app;
-- Unlogged: after a crash, the next response that is stored measures again.
create unlogged table auth.idempotency_usage (
    organization_id uuid primary key,
    full_until timestamptz,
    measured_again timestamptz not null
);
alter table auth.idempotency_usage enable row level security, force row level security;
comment on table auth.idempotency_usage is 'The last measurement of an organization''s stored responses, by app.store_response.';
comment on column auth.idempotency_usage.full_until is
    'When enough responses are an hour old and can be deleted, so that the rest is below the limit; null if it is already.';
comment on column auth.idempotency_usage.measured_again is 'Time of the next measurement, at the earliest.';

-- The API compresses bodies: PostgreSQL would not compress a body of a few hundred bytes, and would waste time on compressed ones.
alter table idempotency_keys alter column body set storage external;
comment on column idempotency_keys.body is
    'The response in zlib''s format, byte for byte after decompression. Only the same user gets it again.';
