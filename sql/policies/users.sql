-- users: admins read all users of their organization and change their roles; other users read themselves. claims_auth_definer logs users in
-- and creates them.
-- claims_context_definer reads the user before there is a context, so users_requires_context is not for it.
select schema_admin.isolate('app.users',
    context_roles => '{claims_admin, claims_processor, claims_provider, claims_patient, claims_auth_definer}');
grant select on app.users to claims_admin, claims_processor, claims_provider, claims_patient, claims_auth_definer;
grant select (organization_id, user_id, role, active, provider_id, patient_id) on app.users to claims_context_definer;
grant insert (user_id, email, name, role, provider_id, patient_id) on app.users to claims_auth_definer;
grant update (role, active, provider_id, patient_id) on app.users to claims_admin;
create policy users_admin_select on app.users for select to claims_admin using (true);
create policy users_admin_update on app.users for update to claims_admin using (true);
create policy users_self_select on app.users for select to claims_processor, claims_provider, claims_patient
    using (user_id = context.variable('user_id')
           and context.matches(user_id, (select context.verified_id(current_user, 'user_id'))));
create policy users_context_definer on app.users for select to claims_context_definer using (true);
create policy users_auth_definer on app.users to claims_auth_definer using (true) with check (true);
