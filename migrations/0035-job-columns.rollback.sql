set local search_path = app;
alter table job_processing_logs add column attempt_token uuid, add column idempotency_key text;
comment on column job_processing_logs.attempt_token is
    'Made anew by every attempt; an effect is written only by the attempt whose token still stands here.';
-- Even their owner sees no rows while row-level security is forced.
alter table job_processing_logs no force row level security;
update job_processing_logs set idempotency_key = event_id::text;
alter table job_processing_logs force row level security;
alter table job_processing_logs
    alter column idempotency_key set not null,
    add constraint job_processing_logs_idempotency_key_key unique (organization_id, idempotency_key);
