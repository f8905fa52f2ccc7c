-- patients: admins read all of the organization; processors those of claims assigned to them; providers those in their care; patients
-- themselves. Admins and providers add patients; a trigger adds a provider's patient to its care (sql/functions/care_relationships.sql).
select schema_admin.isolate('app.patients');
grant select on app.patients to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_admin, claims_provider;
grant update (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_admin;
grant select (organization_id, patient_id) on app.patients to claims_trigger_definer;   -- app.record_access
grant select (organization_id, patient_id, created_at)
    on app.patients to claims_reporting;
grant select (member_number, first_name, last_name, date_of_birth, email, phone) on app.patients to claims_reporting_personal;
create policy patients_admin_select on app.patients for select to claims_admin, claims_system using (true);
create policy patients_processor_select on app.patients for select to claims_processor
    using (exists (
        select from app.claims c where c.patient_id = patients.patient_id and c.assigned_to = context.variable('user_id')
          and context.matches(c.assigned_to, (select context.verified_id(current_user, 'user_id')))));
create policy patients_provider_select on app.patients for select to claims_provider
    using (exists (
        select from app.care_relationships r
        where r.patient_id = patients.patient_id and r.provider_id = context.variable('provider_id')
          and context.matches(r.provider_id, (select context.verified_id(current_user, 'provider_id')))));
create policy patients_patient_select on app.patients for select to claims_patient
    using (patient_id = context.variable('patient_id')
           and context.matches(patient_id, (select context.verified_id(current_user, 'patient_id'))));
create policy patients_admin_insert on app.patients for insert to claims_admin with check (true);
-- The trigger that adds the care relationship needs a provider id.
create policy patients_provider_insert on app.patients for insert to claims_provider
    with check ((select context.required_id(current_user, 'provider_id')) is not null);
create policy patients_admin_update on app.patients for update to claims_admin using (true);
create policy patients_trigger_definer_select on app.patients for select to claims_trigger_definer using (true);
create policy patients_reporting_select on app.patients for select to claims_reporting using (true);
