-- Which organization a reporting login reads. ctx.entered looks it up for session_user; `make grant-reporting` fills it.
set local search_path = app;
create table ctx.reporters (
    login name primary key,
    organization_id uuid not null references organizations on delete cascade,
    granted_at timestamptz not null default now(),
    granted_by name not null default session_user
);
alter table ctx.reporters enable row level security, force row level security;
comment on table ctx.reporters is 'Written by an administrator alone (make grant-reporting); a login needs membership in claims_reporting, too.';
