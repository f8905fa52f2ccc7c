-- The audit log: one entry for each access to or change of a row. Triggers and functions insert entries, and no role may change them. They
-- are kept for six years (45 CFR 164.316(b)(2)).
set local search_path = app;
create table audit_logs (
    organization_id uuid not null default organization_id() references organizations,
    audit_id uuid not null default uuid7(),
    at timestamptz not null default now(),
    actor_user_id uuid,
    actor_role text not null,
    action text not null
        constraint audit_logs_action_check check (action in (
            'create', 'read', 'update', 'delete', 'login', 'login_failed', 'export', 'denied', 'execute')),
    entity text not null,
    entity_id uuid,
    patient_id uuid,
    before jsonb,
    after jsonb,
    request_id text,
    address text,
    outcome text not null default 'success',
    primary key (organization_id, audit_id)
);
create index audit_logs_newest on audit_logs (organization_id, at desc, audit_id desc);
create index audit_logs_patient on audit_logs (organization_id, patient_id, at desc, audit_id desc);
alter table audit_logs enable row level security, force row level security;
comment on column audit_logs.before is 'The changed columns as they were; null for a new row.';
