-- care_relationships: admins read, create and delete all; providers and patients read their own. Most are created by triggers
-- (claims_trigger_definer).
select schema_admin.isolate('app.care_relationships');
grant select on app.care_relationships to claims_admin, claims_provider, claims_patient;
grant select, insert on app.care_relationships to claims_trigger_definer;
grant insert (provider_id, patient_id), delete on app.care_relationships to claims_admin;
grant select (organization_id, provider_id, patient_id, created_at)
    on app.care_relationships to claims_reporting;
create policy care_relationships_admin_select on app.care_relationships for select to claims_admin using (true);
create policy care_relationships_admin_insert on app.care_relationships for insert to claims_admin with check (true);
create policy care_relationships_admin_delete on app.care_relationships for delete to claims_admin using (true);
create policy care_relationships_provider_select on app.care_relationships for select to claims_provider
    using (provider_id = context.variable('provider_id')
           and context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))));
create policy care_relationships_patient_select on app.care_relationships for select to claims_patient
    using (patient_id = context.variable('patient_id')
           and context.matches(patient_id, (select context.verified_id(current_user, 'patient_id'))));
create policy care_relationships_trigger_definer on app.care_relationships to claims_trigger_definer using (true) with check (true);
create policy care_relationships_reporting_select on app.care_relationships for select to claims_reporting using (true);
