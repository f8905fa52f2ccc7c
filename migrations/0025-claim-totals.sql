-- Totals for statistics. A writer of claims only inserts changes and locks no row that another writer needs; a worker applies changes to
-- totals. At any time the sum of totals and remaining changes is exact (sql/functions/claim_totals.sql).
set local search_path = app;
create table claim_totals (
    organization_id uuid not null default organization_id() references organizations,
    scope_id uuid not null,
    service_date date not null,
    status text not null,
    count bigint not null,
    cents bigint not null,
    decided bigint not null,
    approved bigint not null,
    timed bigint not null,
    microseconds bigint not null,
    primary key (organization_id, scope_id, service_date, status)
);
alter table claim_totals enable row level security, force row level security;
comment on column claim_totals.scope_id is 'A provider''s id, or the organization''s id for the claims of all providers.';
comment on column claim_totals.decided is
    'Claims with a decision, regardless of later changes; approved: those whose last decision is an approval.';
comment on column claim_totals.timed is
    'Claims with a first decision; microseconds: the sum of their times from submission to that decision.';

-- No foreign keys: a change comes from a claim, which has them, and exists for seconds.
create table claim_total_changes (
    organization_id uuid not null default organization_id(),
    change_id bigint not null generated always as identity,
    provider_id uuid not null,
    service_date date not null,
    status text not null,
    count bigint not null,
    cents bigint not null,
    decided bigint not null,
    approved bigint not null,
    timed bigint not null,
    microseconds bigint not null,
    primary key (organization_id, change_id)
);
alter table claim_total_changes enable row level security, force row level security;
comment on column claim_total_changes.count is
    '1 for the new values of a claim, -1 for the old ones; all other numbers have the same sign.';
