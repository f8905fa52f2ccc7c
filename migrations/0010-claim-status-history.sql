-- All statuses that a claim has had. Only a trigger inserts rows, and no role may change them.
set local search_path = app;
create table claim_status_history (
    organization_id uuid not null default organization_id() references organizations,
    claim_id uuid not null,
    version integer not null,
    from_status text,
    to_status text not null,
    at timestamptz not null default now(),
    by_user_id uuid,
    by_role text not null,
    reason text,
    source text not null
        constraint claim_status_history_source_check check (source in ('api', 'bulk', 'job', 'import', 'sql')),
    event_id uuid,
    primary key (organization_id, claim_id, version),
    foreign key (organization_id, claim_id) references claims
);
alter table claim_status_history enable row level security, force row level security;
