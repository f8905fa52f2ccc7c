-- invitations: admins invite, read and withdraw; who holds a token joins through auth.accept_invitation (claims_gate). The token's
-- hash is nobody's to read but claims_gate's.
select schema_admin.drop_policies('app.invitations');
alter table app.invitations enable row level security, force row level security;
revoke all on app.invitations from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select (organization_id, invitation_id, email, role, provider_id, patient_id, created_at, expires_at, accepted_at)
    on app.invitations to claims_admin;
grant insert (email, role, provider_id, patient_id, token_hash) on app.invitations to claims_admin;
grant delete on app.invitations to claims_admin;
grant select, update (accepted_at) on app.invitations to claims_gate;
create policy invitations_tenant on app.invitations as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy invitations_entered on app.invitations as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy invitations_signed on app.invitations as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy invitations_admin_select on app.invitations for select to claims_admin using (true);
create policy invitations_admin_insert on app.invitations for insert to claims_admin with check (true);
create policy invitations_admin_delete on app.invitations for delete to claims_admin using (accepted_at is null);
create policy invitations_gate on app.invitations to claims_gate using (true);
