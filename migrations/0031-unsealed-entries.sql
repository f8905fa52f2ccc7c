-- Organizations with audit entries since their last seal, so that the sealer skips those without.
set local search_path = app;
-- No key and no index, so that writers only insert rows and never wait for each other.
create table auth.unsealed_entries (
    organization_id uuid not null,
    written_by xid8 not null default pg_current_xact_id()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
alter table auth.unsealed_entries enable row level security, force row level security;
comment on table auth.unsealed_entries is
    'One row for each audit entry, inserted in the same transaction and deleted when the entry is sealed.';

-- The daily seals of existing organizations begin half an hour from now. Until then, a transaction that began before the functions were
-- replaced may write an entry without a marker.
alter table auth.organization_lookup add column daily_seal_at timestamptz not null default now() - interval '19 hours 30 minutes';
alter table auth.organization_lookup alter column daily_seal_at set default now();
comment on column auth.organization_lookup.daily_seal_at is
    'When the last daily seal was made; it is made even if there are no new entries.';

-- Existing entries have no marker. While row-level security is forced, not even the owner can read the organizations.
alter table auth.organization_lookup no force row level security;
alter table auth.unsealed_entries no force row level security;
insert into auth.unsealed_entries (organization_id) select organization_id from auth.organization_lookup;
alter table auth.unsealed_entries force row level security;
alter table auth.organization_lookup force row level security;
