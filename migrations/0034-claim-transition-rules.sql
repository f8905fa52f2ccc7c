-- The requirements of a transition in columns, which app.check_transition reads. Before, it compared the words of `requires`.
set local search_path = app;
-- The schema step fills the table anew from sql/data/claim-transitions.csv.
alter table claim_transitions
    add column needs_reason boolean not null default false,
    add column needs_denial_reason boolean not null default false,
    add column rule text
        constraint claim_transitions_rule_check check (rule in (
            'all_checks', 'amount_in_range', 'within_appeal_window', 'partially_approved', 'not_decider', 'system_reverts_own'));
-- No function reads it: policies decide which claims a role reaches.
alter table claim_transitions drop column scope;
comment on column claim_transitions.requires is 'The requirements in words, for readers. The next three columns are checked.';
comment on column claim_transitions.needs_reason is 'Whether claims.status_reason must be given.';
comment on column claim_transitions.needs_denial_reason is 'Whether claims.denial_reason must be given.';
comment on column claim_transitions.rule is 'A further condition, which app.check_transition tests.';
