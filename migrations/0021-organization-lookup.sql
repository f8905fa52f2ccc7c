-- The organizations there are, for what has to walk through all of them and may enter one at a time: sealing the trail and auditing.
set local search_path = app;
create table auth.organization_lookup (organization_id uuid primary key references organizations);
-- Those that stand already: even their owner sees none while row-level security is forced.
alter table organizations no force row level security;
insert into auth.organization_lookup select organization_id from organizations;
alter table organizations force row level security;
alter table auth.organization_lookup enable row level security, force row level security;
