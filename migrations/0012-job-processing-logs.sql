-- One row for each job. Rows are kept forever, while the queue deletes finished jobs. The unique key ensures that a job has one effect.
set local search_path = app;
create table job_processing_logs (
    organization_id uuid not null default organization_id() references organizations,
    job_id uuid not null default uuid7(),
    idempotency_key text not null,
    job_type text not null,
    event_id uuid not null,
    patient_id uuid not null,
    status text not null default 'pending'
        constraint job_processing_logs_status_check check (status in ('pending', 'processing', 'completed', 'failed')),
    attempts integer not null default 0,
    attempt_token uuid,
    error text,
    result json,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    primary key (organization_id, job_id),
    constraint job_processing_logs_idempotency_key_key unique (organization_id, idempotency_key),
    constraint job_processing_logs_event_key unique (organization_id, event_id),
    foreign key (organization_id, event_id) references patient_status_events,
    foreign key (organization_id, patient_id) references patients
);
create index job_processing_logs_newest on job_processing_logs (organization_id, created_at desc, job_id desc);
create index job_processing_logs_patient on job_processing_logs (organization_id, patient_id);
alter table job_processing_logs enable row level security, force row level security;
comment on column job_processing_logs.attempt_token is
    'A new random value for each attempt.';
comment on column job_processing_logs.error is 'The class of the failure or its SQLSTATE, never a message with values in it.';
