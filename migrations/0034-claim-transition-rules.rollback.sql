set local search_path = app;
-- The schema step of the version before fills it anew.
truncate claim_transitions;
alter table claim_transitions
    drop column needs_reason, drop column needs_denial_reason, drop column rule,
    add column scope text not null
        constraint claim_transitions_scope_check check (scope in ('yes', 'assigned', 'own'));
comment on column claim_transitions.requires is 'In words; apply_transition() in sql/functions/claims.sql holds it.';
