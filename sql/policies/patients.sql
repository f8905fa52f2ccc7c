-- patients: admins see all of the organization's; processors those of the claims assigned to them; providers those in their care;
-- a patient itself. Admins and providers register one; a provider's comes into its care (sql/functions/care_relationships.sql).
select schema_admin.drop_policies('app.patients');
alter table app.patients enable row level security, force row level security;
revoke all on app.patients from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.patients to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_admin, claims_provider;
grant update (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_admin;
grant select (organization_id, patient_id) on app.patients to claims_recorder;   -- app.record_access
revoke all on app.patients from claims_reporting, claims_reporting_personal;
grant select (organization_id, patient_id, created_at)
    on app.patients to claims_reporting;
grant select (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_reporting_personal;
create policy patients_tenant on app.patients as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy patients_entered on app.patients as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy patients_signed on app.patients as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy patients_admin_select on app.patients for select to claims_admin, claims_system using (true);
create policy patients_processor_select on app.patients for select to claims_processor
    using (exists (
        select from app.claims c where c.patient_id = patients.patient_id and c.assigned_to = ctx.variable('user_id')
          and ctx.same(c.assigned_to, (select ctx.verified(current_user, 'user_id')))));
create policy patients_provider_select on app.patients for select to claims_provider
    using (exists (
        select from app.care_relationships r
        where r.patient_id = patients.patient_id and r.provider_id = ctx.variable('provider_id')
          and ctx.same(r.provider_id, (select ctx.verified(current_user, 'provider_id')))));
create policy patients_patient_select on app.patients for select to claims_patient
    using (patient_id = ctx.variable('patient_id')
           and ctx.same(patient_id, (select ctx.verified(current_user, 'patient_id'))));
create policy patients_admin_insert on app.patients for insert to claims_admin with check (true);
create policy patients_provider_insert on app.patients for insert to claims_provider
    with check ((select ctx.entered(current_user, 'provider_id')) is not null);
create policy patients_admin_update on app.patients for update to claims_admin using (true);
create policy patients_recorder_select on app.patients for select to claims_recorder using (true);
create policy patients_reporting_select on app.patients for select to claims_reporting using (true);
