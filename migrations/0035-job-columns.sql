-- Columns of jobs without a use. The row's lock and its status decide whether an attempt has an effect, never attempt_token;
-- idempotency_key was the event_id as text, which is unique itself.
set local search_path = app;
alter table job_processing_logs drop column attempt_token, drop column idempotency_key;
