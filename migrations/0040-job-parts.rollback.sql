set local search_path = app;
alter table job_processing_logs drop column last_claim_created_at, drop column last_claim_id;
