-- organizations: admins and processors read all of their own; providers and patients its name only (column grants).
-- Admins change its name, slug and settings; suspending it is an operator's act.
select schema_admin.drop_policies('app.organizations');
alter table app.organizations enable row level security, force row level security;
revoke all on app.organizations from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_usher,
    claims_recorder, claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.organizations to claims_admin, claims_processor, claims_system, claims_gate;
grant select (organization_id, slug, name) on app.organizations to claims_provider, claims_patient;
grant select (organization_id, suspended_at) on app.organizations to claims_usher;
grant insert (organization_id, slug, name) on app.organizations to claims_gate;
grant update (name, slug, claim_amount_limit_cents, auto_approve_limit_cents, timezone, decision_days, appeal_window_days)
    on app.organizations to claims_admin;
revoke all on app.organizations from claims_reporting, claims_reporting_personal;
grant select (organization_id, slug, name, timezone, claim_amount_limit_cents, auto_approve_limit_cents, decision_days, appeal_window_days)
    on app.organizations to claims_reporting;
create policy organizations_tenant on app.organizations as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
-- Whatever rows there are, a scan begins by checking the context, but for claims_usher, which reads before there is one.
create policy organizations_entered on app.organizations as restrictive to claims_admin, claims_processor, claims_provider,
    claims_patient, claims_system, claims_gate, claims_reporting
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy organizations_signed on app.organizations as restrictive to claims_admin, claims_processor, claims_provider,
    claims_patient, claims_system, claims_gate, claims_reporting     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy organizations_member_select on app.organizations for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
create policy organizations_usher on app.organizations for select to claims_usher using (true);
create policy organizations_gate on app.organizations to claims_gate using (true) with check (true);
create policy organizations_admin_update on app.organizations for update to claims_admin using (true);
create policy organizations_reporting_select on app.organizations for select to claims_reporting using (true);
