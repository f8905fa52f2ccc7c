-- A job that concerns many claims runs in parts, each a transaction. The next part continues after the last claim of this one.
set local search_path = app;
alter table job_processing_logs
    add column last_claim_created_at timestamptz,
    add column last_claim_id uuid,
    add constraint job_processing_logs_last_claim_check check ((last_claim_created_at is null) = (last_claim_id is null));
comment on column job_processing_logs.last_claim_id is
    'Last claim of the parts that have run, by created_at and claim_id; null before the first part has ended, and if one part was enough.';
