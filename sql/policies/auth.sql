-- Tables of the schema auth: no role of the product reads them. Functions of claims_gate do; the API may call those.
select schema_admin.drop_policies('auth.credentials'), schema_admin.drop_policies('auth.sessions'),
    schema_admin.drop_policies('auth.refresh_tokens');
revoke all on auth.credentials, auth.sessions, auth.refresh_tokens from public;
grant select, insert, update on auth.credentials to claims_gate;
grant select, insert, update, delete on auth.sessions, auth.refresh_tokens to claims_gate;
create policy credentials_gate on auth.credentials to claims_gate using (true) with check (true);
create policy sessions_gate on auth.sessions to claims_gate using (true) with check (true);
create policy refresh_tokens_gate on auth.refresh_tokens to claims_gate using (true) with check (true);
-- ctx.enter looks up whether the session has ended.
grant select on auth.sessions to claims_usher;
create policy sessions_usher on auth.sessions for select to claims_usher
    using (organization_id = ctx.variable('organization_id'));

-- The ids and slugs of all organizations and when each had its daily seal: kept by a trigger of organizations, read by logins and by what
-- seals and audits.
select schema_admin.drop_policies('auth.tenants');
revoke all on auth.tenants from public;
grant select, update (daily_seal_at) on auth.tenants to claims_gate;
grant select, insert (organization_id, slug), update (slug) on auth.tenants to claims_recorder;
create policy tenants_gate on auth.tenants for select to claims_gate using (true);
create policy tenants_gate_update on auth.tenants for update to claims_gate using (true) with check (true);
create policy tenants_recorder on auth.tenants to claims_recorder using (true) with check (true);

-- Which organizations have entries that may not be sealed yet, and nothing else of them.
select schema_admin.drop_policies('auth.touched');
revoke all on auth.touched from public;
grant insert (organization_id) on auth.touched to claims_recorder;
grant select, delete on auth.touched to claims_gate;
create policy touched_recorder on auth.touched for insert to claims_recorder with check (true);
create policy touched_gate on auth.touched to claims_gate using (true) with check (true);

select schema_admin.drop_policies('auth.windows');
revoke all on auth.windows from public;
grant select, insert, update, delete on auth.windows to claims_gate;
create policy windows_gate on auth.windows to claims_gate using (true) with check (true);

select schema_admin.drop_policies('auth.denials');
revoke all on auth.denials from public;
grant select, insert, update, delete on auth.denials to claims_gate;
create policy denials_gate on auth.denials to claims_gate using (true) with check (true);

select schema_admin.drop_policies('auth.kept_answers');
revoke all on auth.kept_answers from public;
grant select, insert, update on auth.kept_answers to claims_gate;
create policy kept_answers_gate on auth.kept_answers to claims_gate using (true) with check (true);
