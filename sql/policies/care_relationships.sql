-- care_relationships: admins see, make and end all; a provider and a patient see their own. Most are made by triggers
-- (claims_recorder).
select schema_admin.drop_policies('app.care_relationships');
alter table app.care_relationships enable row level security, force row level security;
revoke all on app.care_relationships from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.care_relationships to claims_admin, claims_provider, claims_patient;
grant select, insert on app.care_relationships to claims_recorder;
grant insert (provider_id, patient_id), delete on app.care_relationships to claims_admin;
revoke all on app.care_relationships from claims_reporting, claims_reporting_personal;
grant select (organization_id, provider_id, patient_id, created_at)
    on app.care_relationships to claims_reporting;
create policy care_relationships_tenant on app.care_relationships as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy care_relationships_entered on app.care_relationships as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy care_relationships_signed on app.care_relationships as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy care_relationships_admin_select on app.care_relationships for select to claims_admin using (true);
create policy care_relationships_admin_insert on app.care_relationships for insert to claims_admin with check (true);
create policy care_relationships_admin_delete on app.care_relationships for delete to claims_admin using (true);
create policy care_relationships_provider_select on app.care_relationships for select to claims_provider
    using (provider_id = ctx.variable('provider_id')
           and ctx.same(provider_id, (select ctx.verified(current_user, 'provider_id'))));
create policy care_relationships_patient_select on app.care_relationships for select to claims_patient
    using (patient_id = ctx.variable('patient_id')
           and ctx.same(patient_id, (select ctx.verified(current_user, 'patient_id'))));
create policy care_relationships_recorder on app.care_relationships to claims_recorder using (true) with check (true);
create policy care_relationships_reporting_select on app.care_relationships for select to claims_reporting using (true);
