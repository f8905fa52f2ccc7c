-- Which role may move a claim from which status to which; filled from sql/data/claim-transitions.csv by the schema step.
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
comment on column claim_transitions.from_status is 'Empty for a claim that is being made.';
comment on column claim_transitions.requires is 'In words; apply_transition() in sql/functions/claims.sql holds it.';
