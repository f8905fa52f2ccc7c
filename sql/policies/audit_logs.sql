-- audit_logs: admins read all entries of their organization; patients those about themselves, except about drafts of claims. Only
-- claims_trigger_definer inserts. claims_audit_sealer reads, to seal and verify. No role may update or delete, not even the owner.
select schema_admin.isolate('app.audit_logs');
revoke update, delete, truncate on app.audit_logs from claims_owner;
grant select on app.audit_logs to claims_admin, claims_patient, claims_audit_sealer;
grant insert (organization_id, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, address,
              outcome)
    on app.audit_logs to claims_trigger_definer;
create policy audit_logs_admin_select on app.audit_logs for select to claims_admin using (true);
-- An entry about a claim is visible if the claim is: that excludes drafts.
create policy audit_logs_patient_select on app.audit_logs for select to claims_patient
    using (patient_id = context.variable('patient_id')
           and context.matches(patient_id, (select context.verified_id(current_user, 'patient_id')))
           and (entity <> 'claims' or entity_id in (select c.claim_id from app.claims c)));
create policy audit_logs_trigger_definer_insert on app.audit_logs for insert to claims_trigger_definer with check (true);
create policy audit_logs_audit_sealer_select on app.audit_logs for select to claims_audit_sealer using (true);
