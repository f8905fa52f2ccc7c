-- Tables of the schema auth: no role of the product reads them. Functions of claims_auth_definer do; the API may call those.
select schema_admin.close_table('auth.credentials'), schema_admin.close_table('auth.sessions'),
    schema_admin.close_table('auth.refresh_tokens');
grant select, insert, update on auth.credentials to claims_auth_definer;
grant select, insert, update, delete on auth.sessions, auth.refresh_tokens to claims_auth_definer;
create policy credentials_auth_definer on auth.credentials to claims_auth_definer using (true) with check (true);
create policy sessions_auth_definer on auth.sessions to claims_auth_definer using (true) with check (true);
create policy refresh_tokens_auth_definer on auth.refresh_tokens to claims_auth_definer using (true) with check (true);
-- context.begin_request looks up whether the session has ended.
grant select on auth.sessions to claims_context_definer;
create policy sessions_context_definer on auth.sessions for select to claims_context_definer
    using (organization_id = context.variable('organization_id'));

-- The ids and slugs of all organizations and when each had its daily seal: kept by a trigger of organizations, read by logins and by what
-- seals and audits.
select schema_admin.close_table('auth.organization_lookup');
grant select, update (daily_seal_at) on auth.organization_lookup to claims_auth_definer;
grant select, insert (organization_id, slug), update (slug) on auth.organization_lookup to claims_trigger_definer;
create policy organization_lookup_auth_definer on auth.organization_lookup for select to claims_auth_definer using (true);
create policy organization_lookup_auth_definer_update on auth.organization_lookup for update to claims_auth_definer using (true) with check (true);
create policy organization_lookup_trigger_definer on auth.organization_lookup to claims_trigger_definer using (true) with check (true);

-- Which organizations have entries that may not be sealed yet, and nothing else of them.
select schema_admin.close_table('auth.unsealed_entries');
grant insert (organization_id) on auth.unsealed_entries to claims_trigger_definer;
grant select, delete on auth.unsealed_entries to claims_auth_definer;
create policy unsealed_entries_trigger_definer on auth.unsealed_entries for insert to claims_trigger_definer with check (true);
create policy unsealed_entries_auth_definer on auth.unsealed_entries to claims_auth_definer using (true) with check (true);

select schema_admin.close_table('auth.rate_limits');
grant select, insert, update, delete on auth.rate_limits to claims_auth_definer;
create policy rate_limits_auth_definer on auth.rate_limits to claims_auth_definer using (true) with check (true);

select schema_admin.close_table('auth.denial_counters');
grant select, insert, update, delete on auth.denial_counters to claims_auth_definer;
create policy denial_counters_auth_definer on auth.denial_counters to claims_auth_definer using (true) with check (true);

select schema_admin.close_table('auth.idempotency_usage');
grant select, insert, update on auth.idempotency_usage to claims_auth_definer;
create policy idempotency_usage_auth_definer on auth.idempotency_usage to claims_auth_definer using (true) with check (true);
