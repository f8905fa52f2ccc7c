-- audit_seals: claims_sealer adds and compares; nobody else reads, and nobody changes or removes, the owner neither.
select schema_admin.drop_policies('app.audit_seals');
alter table app.audit_seals enable row level security, force row level security;
revoke all on app.audit_seals from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_sealer,
    claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
revoke update, delete, truncate on app.audit_seals from claims_owner;
grant select on app.audit_seals to claims_sealer;
grant insert (number, era, up_to, sealed_at, audit_ids, hashes, digest) on app.audit_seals to claims_sealer;
create policy audit_seals_tenant on app.audit_seals as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy audit_seals_entered on app.audit_seals as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy audit_seals_signed on app.audit_seals as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy audit_seals_sealer_select on app.audit_seals for select to claims_sealer using (true);
create policy audit_seals_sealer_insert on app.audit_seals for insert to claims_sealer with check (true);
