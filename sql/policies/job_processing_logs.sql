-- job_processing_logs: a role that can read an event can read the status of its job. Jobs (claims_system) update it. The trigger on events
-- inserts a row, and app.retry_job resets a failed one (both claims_trigger_definer).
select schema_admin.isolate('app.job_processing_logs');
grant select on app.job_processing_logs to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant update (status, attempts, error, result, started_at, finished_at, last_claim_created_at, last_claim_id) on app.job_processing_logs to claims_system;
grant select, insert, update (status, attempts, error, started_at, finished_at) on app.job_processing_logs to claims_trigger_definer;
create policy job_processing_logs_admin_select on app.job_processing_logs for select to claims_admin, claims_system using (true);
create policy job_processing_logs_member_select on app.job_processing_logs for select
    to claims_processor, claims_provider, claims_patient
    using (exists (select from app.patients p where p.patient_id = job_processing_logs.patient_id));
create policy job_processing_logs_system_update on app.job_processing_logs for update to claims_system using (true);
create policy job_processing_logs_trigger_definer on app.job_processing_logs to claims_trigger_definer using (true) with check (true);
