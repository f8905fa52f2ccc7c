-- Tables of the schema auth: only definer functions, which the API may call, read and write them, most as claims_auth_definer.
-- Logins are looked up before the organization is known, so no policy restricts these tables to one organization.
select schema_admin.close_table('auth.credentials'), schema_admin.close_table('auth.sessions'),
    schema_admin.close_table('auth.refresh_tokens');
grant select, insert, update on auth.credentials to claims_auth_definer;
grant select, insert, update, delete on auth.sessions, auth.refresh_tokens to claims_auth_definer;
create policy credentials_auth_definer on auth.credentials to claims_auth_definer using (true) with check (true);
create policy sessions_auth_definer on auth.sessions to claims_auth_definer using (true) with check (true);
create policy refresh_tokens_auth_definer on auth.refresh_tokens to claims_auth_definer using (true) with check (true);
-- context.begin_request checks that the session has not ended.
grant select on auth.sessions to claims_context_definer;
create policy sessions_context_definer on auth.sessions for select to claims_context_definer
    using (organization_id = context.variable('organization_id'));

-- Ids and slugs of all organizations, and the time of each one's daily seal. A trigger of organizations writes it; logins, sealing and
-- auditing read it.
select schema_admin.close_table('auth.organization_lookup');
grant select, update (daily_seal_at) on auth.organization_lookup to claims_auth_definer;
grant select, insert (organization_id, slug), update (slug) on auth.organization_lookup to claims_trigger_definer;
create policy organization_lookup_auth_definer on auth.organization_lookup for select to claims_auth_definer using (true);
create policy organization_lookup_auth_definer_update on auth.organization_lookup for update to claims_auth_definer
    using (true) with check (true);
create policy organization_lookup_trigger_definer on auth.organization_lookup to claims_trigger_definer using (true) with check (true);

-- Markers: which organizations have audit entries without a seal.
select schema_admin.close_table('auth.unsealed_entries');
grant insert (organization_id) on auth.unsealed_entries to claims_trigger_definer;
grant select, delete on auth.unsealed_entries to claims_auth_definer;
create policy unsealed_entries_trigger_definer on auth.unsealed_entries for insert to claims_trigger_definer with check (true);
create policy unsealed_entries_auth_definer on auth.unsealed_entries to claims_auth_definer using (true) with check (true);

-- Counters of the rate limits and the login throttle.
select schema_admin.close_table('auth.rate_limits');
grant select, insert, update, delete on auth.rate_limits to claims_auth_definer;
create policy rate_limits_auth_definer on auth.rate_limits to claims_auth_definer using (true) with check (true);

-- Denied requests of the present minute, by user.
select schema_admin.close_table('auth.denial_counters');
grant select, insert, update, delete on auth.denial_counters to claims_auth_definer;
create policy denial_counters_auth_definer on auth.denial_counters to claims_auth_definer using (true) with check (true);

-- The last measurement of stored responses, by organization.
select schema_admin.close_table('auth.idempotency_usage');
grant select, insert, update on auth.idempotency_usage to claims_auth_definer;
create policy idempotency_usage_auth_definer on auth.idempotency_usage to claims_auth_definer using (true) with check (true);
