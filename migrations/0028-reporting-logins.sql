-- Which organization a reporting login reads. context.required_id looks it up for session_user; `make grant-reporting` fills it.
set local search_path = app;
create table context.reporting_logins (
    login name primary key,
    organization_id uuid not null references organizations on delete cascade,
    granted_at timestamptz not null default now(),
    granted_by name not null default session_user
);
alter table context.reporting_logins enable row level security, force row level security;
comment on table context.reporting_logins is 'Written by an administrator alone (make grant-reporting); a login needs membership in claims_reporting, too.';
