-- claim_totals: admins read the totals of the whole organization, providers their own. Statistics of other roles count their few claims.
-- Only app.apply_total_changes writes (claims_trigger_definer).
select schema_admin.isolate('app.claim_totals');
grant select on app.claim_totals to claims_admin, claims_provider;
grant select, insert, update (count, cents, decided, approved, timed, microseconds), delete on app.claim_totals to claims_trigger_definer;
-- The totals of the whole organization have its id as scope_id.
create policy claim_totals_admin_select on app.claim_totals for select to claims_admin
    using (scope_id = organization_id);
create policy claim_totals_provider_select on app.claim_totals for select to claims_provider
    using (scope_id = context.variable('provider_id')
           and context.matches(scope_id, (select context.verified_id(current_user, 'provider_id'))));
create policy claim_totals_trigger_definer on app.claim_totals to claims_trigger_definer using (true) with check (true);
