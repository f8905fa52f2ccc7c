-- providers: everybody who works with claims sees all of the organization's; a patient those of its own claims and care.
-- Only admins add one; they correct every one, a provider itself (its NPI apart).
select schema_admin.drop_policies('app.providers');
alter table app.providers enable row level security, force row level security;
revoke all on app.providers from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.providers to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (npi, name, specialty, email) on app.providers to claims_admin;
grant update (npi, name, specialty, email) on app.providers to claims_admin;
grant update (name, specialty, email) on app.providers to claims_provider;
revoke all on app.providers from claims_reporting, claims_reporting_personal;
grant select (organization_id, provider_id, npi, name, specialty, created_at)
    on app.providers to claims_reporting;
grant select (email) on app.providers to claims_reporting_personal;
create policy providers_tenant on app.providers as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy providers_entered on app.providers as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy providers_signed on app.providers as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy providers_member_select on app.providers for select
    to claims_admin, claims_processor, claims_provider, claims_system using (true);
create policy providers_patient_select on app.providers for select to claims_patient
    using (provider_id in (
        select r.provider_id from app.care_relationships r
        where r.patient_id = ctx.variable('patient_id')
          and ctx.same(r.patient_id, (select ctx.verified(current_user, 'patient_id')))
        union all
        select c.provider_id from app.claims c
        where c.patient_id = ctx.variable('patient_id')
          and ctx.same(c.patient_id, (select ctx.verified(current_user, 'patient_id')))));
create policy providers_admin_insert on app.providers for insert to claims_admin with check (true);
create policy providers_admin_update on app.providers for update to claims_admin using (true);
create policy providers_provider_update on app.providers for update to claims_provider
    using (provider_id = ctx.variable('provider_id')
           and ctx.same(provider_id, (select ctx.verified(current_user, 'provider_id'))));
create policy providers_reporting_select on app.providers for select to claims_reporting using (true);
