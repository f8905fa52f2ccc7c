-- Tables of the schema context: the keys that sign contexts, and the organization of each reporting login. Only definer functions read
-- them.
select schema_admin.close_table('context.keys');
grant select on context.keys to claims_auth_definer, claims_context_definer;
create policy keys_auth_definer on context.keys for select to claims_auth_definer, claims_context_definer using (true);

select schema_admin.close_table('context.reporting_logins');
grant select on context.reporting_logins to claims_auth_definer;
create policy reporting_logins_auth_definer on context.reporting_logins for select to claims_auth_definer using (true);
