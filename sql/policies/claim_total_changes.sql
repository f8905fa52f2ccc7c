-- claim_total_changes: roles that read claim_totals read the changes that are not applied yet. The trigger on claims inserts, and
-- app.apply_total_changes deletes (both claims_trigger_definer).
select schema_admin.isolate('app.claim_total_changes');
grant select on app.claim_total_changes to claims_admin, claims_provider;
grant select, insert, delete on app.claim_total_changes to claims_trigger_definer;
create policy claim_total_changes_admin_select on app.claim_total_changes for select to claims_admin using (true);
create policy claim_total_changes_provider_select on app.claim_total_changes for select to claims_provider
    using (provider_id = context.variable('provider_id')
           and context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))));
create policy claim_total_changes_trigger_definer on app.claim_total_changes to claims_trigger_definer using (true) with check (true);
