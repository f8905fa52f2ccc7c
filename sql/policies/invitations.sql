-- invitations: admins create, read and withdraw invitations. auth.accept_invitation (claims_auth_definer) accepts one by its token. Only
-- claims_auth_definer may read the hashes of tokens.
select schema_admin.isolate('app.invitations');
grant select (organization_id, invitation_id, email, role, provider_id, patient_id, created_at, expires_at, accepted_at)
    on app.invitations to claims_admin;
grant insert (email, role, provider_id, patient_id, token_hash) on app.invitations to claims_admin;
grant delete on app.invitations to claims_admin;
grant select, update (accepted_at) on app.invitations to claims_auth_definer;
create policy invitations_admin_select on app.invitations for select to claims_admin using (true);
create policy invitations_admin_insert on app.invitations for insert to claims_admin with check (true);
create policy invitations_admin_delete on app.invitations for delete to claims_admin using (accepted_at is null);
create policy invitations_auth_definer on app.invitations to claims_auth_definer using (true);
