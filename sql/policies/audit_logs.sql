-- audit_logs: admins read their organization's, a patient what concerns it, drafts of claims apart. Only the triggers add
-- (claims_recorder), claims_sealer compares with the seals; nobody changes or removes, the owner neither.
select schema_admin.drop_policies('app.audit_logs');
alter table app.audit_logs enable row level security, force row level security;
revoke all on app.audit_logs from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_sealer,
    claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
revoke update, delete, truncate on app.audit_logs from claims_owner;
grant select on app.audit_logs to claims_admin, claims_patient, claims_sealer;
grant insert (organization_id, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, address, outcome)
    on app.audit_logs to claims_recorder;
create policy audit_logs_tenant on app.audit_logs as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy audit_logs_entered on app.audit_logs as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy audit_logs_signed on app.audit_logs as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy audit_logs_admin_select on app.audit_logs for select to claims_admin using (true);
create policy audit_logs_patient_select on app.audit_logs for select to claims_patient
    using (patient_id = ctx.variable('patient_id')
           and ctx.same(patient_id, (select ctx.verified(current_user, 'patient_id')))
           and (entity <> 'claims' or entity_id in (select c.claim_id from app.claims c)));
create policy audit_logs_recorder_insert on app.audit_logs for insert to claims_recorder with check (true);
create policy audit_logs_sealer_select on app.audit_logs for select to claims_sealer using (true);
