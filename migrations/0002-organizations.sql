-- A tenant: an insurance company.
set local search_path = app;
create table organizations (
    organization_id uuid primary key default uuid7(),
    slug text not null
        constraint organizations_slug_key unique
        constraint organizations_slug_check check (slug ~ '^[a-z0-9-]{2,63}$'),
    name text not null
        constraint organizations_name_check check (length(name) between 1 and 200),
    claim_amount_limit_cents bigint not null default 100000000
        constraint organizations_claim_amount_limit_check check (claim_amount_limit_cents between 1 and 100000000),
    auto_approve_limit_cents bigint not null default 0
        constraint organizations_auto_approve_limit_check check (auto_approve_limit_cents >= 0),
    timezone text not null default 'UTC',
    decision_days integer not null default 30
        constraint organizations_decision_days_check check (decision_days between 1 and 365),
    appeal_window_days integer not null default 180
        constraint organizations_appeal_window_days_check check (appeal_window_days between 1 and 3650),
    suspended_at timestamptz,
    created_at timestamptz not null default now()
);
alter table organizations enable row level security, force row level security;
comment on column organizations.timezone is 'IANA name; it defines "today" and the days of a visit.';
comment on column organizations.suspended_at is
    'Set by an operator; from then on no request of the organization''s users is accepted.';
