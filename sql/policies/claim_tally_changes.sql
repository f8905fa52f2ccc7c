-- claim_tally_changes: whoever reads tallies reads what is not in them yet. The trigger on claims adds, the fold takes away
-- (claims_recorder).
select schema_admin.drop_policies('app.claim_tally_changes');
alter table app.claim_tally_changes enable row level security, force row level security;
revoke all on app.claim_tally_changes from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_usher, claims_recorder,
    claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.claim_tally_changes to claims_admin, claims_provider;
grant select, insert, delete on app.claim_tally_changes to claims_recorder;
create policy claim_tally_changes_tenant on app.claim_tally_changes as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy claim_tally_changes_entered on app.claim_tally_changes as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy claim_tally_changes_signed on app.claim_tally_changes as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy claim_tally_changes_admin_select on app.claim_tally_changes for select to claims_admin using (true);
create policy claim_tally_changes_provider_select on app.claim_tally_changes for select to claims_provider
    using (provider_id = ctx.variable('provider_id')
           and ctx.same(provider_id, (select ctx.verified(current_user, 'provider_id'))));
create policy claim_tally_changes_recorder on app.claim_tally_changes to claims_recorder using (true) with check (true);
