-- The organization that each reporting login may read. context.read_id looks it up by session_user; `make grant-reporting` writes it.
set local search_path = app;
create table context.reporting_logins (
    login name primary key,
    organization_id uuid not null references organizations on delete cascade,
    granted_at timestamptz not null default now(),
    granted_by name not null default session_user
);
alter table context.reporting_logins enable row level security, force row level security;
comment on table context.reporting_logins is
    'Only an administrator writes it (make grant-reporting). A login also needs membership in claims_reporting.';
