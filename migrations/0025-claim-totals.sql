-- What statistics add up, kept as claims change. Whoever writes a claim adds a change and touches no row that another writer needs; a
-- worker folds changes into tallies. At any moment a tally and the changes still open are the truth: sql/functions/claim_totals.sql.
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
comment on column claim_totals.scope_id is 'Whose claims: a provider''s, or the organization''s own id for all of them.';
comment on column claim_totals.decided is 'Claims that were decided, whatever became of them since; approved: whose last decision that is.';
comment on column claim_totals.timed is 'Claims that were decided; microseconds: from submission to the first decision, of all of them.';

-- No foreign keys: a change comes of a claim, which has them, and lives for seconds.
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
comment on column claim_total_changes.count is '1 for the claim as it is now, -1 for the one it was; all other numbers have that sign, too.';
