-- All organizations, for sealing and auditing, which process every organization, one at a time.
set local search_path = app;
create table auth.organization_lookup (organization_id uuid primary key references organizations);
-- Existing organizations: while row-level security is forced, not even the owner can read them.
alter table organizations no force row level security;
insert into auth.organization_lookup select organization_id from organizations;
alter table organizations force row level security;
alter table auth.organization_lookup enable row level security, force row level security;
