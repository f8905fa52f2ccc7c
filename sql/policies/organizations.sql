-- organizations: admins and processors read all columns of their organization; providers and patients its name only (column grants). Admins
-- update name, slug and settings. Only an operator suspends an organization.
-- claims_context_definer reads organizations before there is a context, so organizations_requires_context is not for it.
select schema_admin.isolate('app.organizations',
    context_roles => '{claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, '
                     'claims_reporting}');
grant select on app.organizations to claims_admin, claims_processor, claims_system, claims_auth_definer;
grant select (organization_id, slug, name) on app.organizations to claims_provider, claims_patient;
grant select (organization_id, suspended_at) on app.organizations to claims_context_definer;
grant insert (organization_id, slug, name) on app.organizations to claims_auth_definer;
grant update (name, slug, claim_amount_limit_cents, auto_approve_limit_cents, timezone, decision_days, appeal_window_days)
    on app.organizations to claims_admin;
grant select (organization_id, slug, name, timezone, claim_amount_limit_cents, auto_approve_limit_cents, decision_days, appeal_window_days)
    on app.organizations to claims_reporting;
create policy organizations_member_select on app.organizations for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
create policy organizations_context_definer on app.organizations for select to claims_context_definer using (true);
create policy organizations_auth_definer on app.organizations to claims_auth_definer using (true) with check (true);
create policy organizations_admin_update on app.organizations for update to claims_admin using (true);
create policy organizations_reporting_select on app.organizations for select to claims_reporting using (true);
