-- The legal changes of a claim's status, and the roles that may make them. The schema step loads them from sql/data/claim-transitions.csv.
set local search_path = app;
create table claim_transitions (
    from_status text not null,
    to_status text not null,
    role text not null
        constraint claim_transitions_role_check check (role in ('admin', 'claims_processor', 'provider', 'patient', 'system')),
    scope text not null
        constraint claim_transitions_scope_check check (scope in ('yes', 'assigned', 'own')),
    requires text,
    primary key (from_status, to_status, role)
);
alter table claim_transitions enable row level security, force row level security;
comment on column claim_transitions.from_status is 'Empty for a new claim.';
comment on column claim_transitions.requires is
    'A further condition, in words; check_transition() in sql/functions/claims.sql enforces it.';
