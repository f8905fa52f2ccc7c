-- job_processing_logs: who sees an event sees how its job fares; jobs themselves (claims_system) write it. The trigger adds a row, and
-- app.retry_job puts a failed one back (claims_recorder).
select schema_admin.drop_policies('app.job_processing_logs');
alter table app.job_processing_logs enable row level security, force row level security;
revoke all on app.job_processing_logs from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.job_processing_logs to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant update (status, attempts, attempt_token, error, result, started_at, finished_at) on app.job_processing_logs to claims_system;
grant select, insert, update (status, attempts, error, started_at, finished_at) on app.job_processing_logs to claims_recorder;
create policy job_processing_logs_tenant on app.job_processing_logs as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy job_processing_logs_entered on app.job_processing_logs as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy job_processing_logs_signed on app.job_processing_logs as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy job_processing_logs_admin_select on app.job_processing_logs for select to claims_admin, claims_system using (true);
create policy job_processing_logs_member_select on app.job_processing_logs for select
    to claims_processor, claims_provider, claims_patient
    using (exists (select from app.patients p where p.patient_id = job_processing_logs.patient_id));
create policy job_processing_logs_system_update on app.job_processing_logs for update to claims_system using (true);
create policy job_processing_logs_recorder on app.job_processing_logs to claims_recorder using (true) with check (true);
