-- users: admins see all of their organization and change their roles, everybody else sees themselves.
-- claims_usher reads whom a context is entered for; claims_gate lets in whoever logs in or joins.
select schema_admin.drop_policies('app.users');
alter table app.users enable row level security, force row level security;
revoke all on app.users from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_usher, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.users to claims_admin, claims_processor, claims_provider, claims_patient, claims_gate;
grant select (organization_id, user_id, role, active, provider_id, patient_id) on app.users to claims_usher;
grant insert (user_id, email, name, role, provider_id, patient_id) on app.users to claims_gate;
grant update (role, active, provider_id, patient_id) on app.users to claims_admin;
create policy users_tenant on app.users as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
-- Whatever rows there are, a scan begins by checking the context, but for claims_usher, which reads before there is one.
create policy users_entered on app.users as restrictive to claims_admin, claims_processor, claims_provider, claims_patient,
    claims_gate
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy users_signed on app.users as restrictive to claims_admin, claims_processor, claims_provider, claims_patient,
    claims_gate     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy users_admin_select on app.users for select to claims_admin using (true);
create policy users_admin_update on app.users for update to claims_admin using (true);
create policy users_self_select on app.users for select to claims_processor, claims_provider, claims_patient
    using (user_id = ctx.variable('user_id')
           and ctx.same(user_id, (select ctx.verified(current_user, 'user_id'))));
create policy users_usher on app.users for select to claims_usher using (true);
create policy users_gate on app.users to claims_gate using (true) with check (true);
