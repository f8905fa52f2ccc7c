-- claim_tallies: admins read those of the whole organization, providers their own; who has few claims counts those. Only the fold
-- writes (claims_recorder).
select schema_admin.drop_policies('app.claim_tallies');
alter table app.claim_tallies enable row level security, force row level security;
revoke all on app.claim_tallies from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_usher, claims_recorder,
    claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.claim_tallies to claims_admin, claims_provider;
grant select, insert, update (count, cents, decided, approved, timed, microseconds), delete on app.claim_tallies to claims_recorder;
create policy claim_tallies_tenant on app.claim_tallies as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy claim_tallies_entered on app.claim_tallies as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy claim_tallies_signed on app.claim_tallies as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy claim_tallies_admin_select on app.claim_tallies for select to claims_admin
    using (scope_id = organization_id);
create policy claim_tallies_provider_select on app.claim_tallies for select to claims_provider
    using (scope_id = ctx.variable('provider_id')
           and ctx.same(scope_id, (select ctx.verified(current_user, 'provider_id'))));
create policy claim_tallies_recorder on app.claim_tallies to claims_recorder using (true) with check (true);
