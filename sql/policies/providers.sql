-- providers: admins, processors and providers read all of the organization; patients those of their claims and care. Admins add and update
-- providers; a provider updates itself, except its NPI.
select schema_admin.isolate('app.providers');
grant select on app.providers to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (npi, name, specialty, email) on app.providers to claims_admin;
grant update (npi, name, specialty, email) on app.providers to claims_admin;
grant update (name, specialty, email) on app.providers to claims_provider;
grant select (organization_id, provider_id, npi, name, specialty, created_at)
    on app.providers to claims_reporting;
grant select (email) on app.providers to claims_reporting_personal;
create policy providers_member_select on app.providers for select
    to claims_admin, claims_processor, claims_provider, claims_system using (true);
create policy providers_patient_select on app.providers for select to claims_patient
    using (provider_id in (
        select r.provider_id from app.care_relationships r
        where r.patient_id = context.variable('patient_id')
          and context.matches(r.patient_id, (select context.verified_id(current_user, 'patient_id')))
        union all
        select c.provider_id from app.claims c
        where c.patient_id = context.variable('patient_id')
          and context.matches(c.patient_id, (select context.verified_id(current_user, 'patient_id')))));
create policy providers_admin_insert on app.providers for insert to claims_admin with check (true);
create policy providers_admin_update on app.providers for update to claims_admin using (true);
create policy providers_provider_update on app.providers for update to claims_provider
    using (provider_id = context.variable('provider_id')
           and context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))));
create policy providers_reporting_select on app.providers for select to claims_reporting using (true);
