-- Which trails were written to since the sealer came by, so that it visits no organization where nothing happened.
set local search_path = app;
-- No key and no index: a writer adds a row and touches none that another one holds.
create table auth.unsealed_entries (
    organization_id uuid not null,
    written_by xid8 not null default pg_current_xact_id()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
alter table auth.unsealed_entries enable row level security, force row level security;
comment on table auth.unsealed_entries is 'A row for each entry of the trail, added in its transaction and removed when it is sealed.';

-- Of the organizations that stand already the daily seals begin half an hour from now: until then a transaction that began before the
-- functions were replaced may still write an entry without a marker.
alter table auth.organization_lookup add column daily_seal_at timestamptz not null default now() - interval '19 hours 30 minutes';
alter table auth.organization_lookup alter column daily_seal_at set default now();
comment on column auth.organization_lookup.daily_seal_at is 'When the last seal was made that is made once a day, whether anything happened or not.';

-- What was written before has no marker. Even their owner sees no tenants while row-level security is forced.
alter table auth.organization_lookup no force row level security;
alter table auth.unsealed_entries no force row level security;
insert into auth.unsealed_entries (organization_id) select organization_id from auth.organization_lookup;
alter table auth.unsealed_entries force row level security;
alter table auth.organization_lookup force row level security;
