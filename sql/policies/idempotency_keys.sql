-- idempotency_keys: stored responses of POST requests. Only claims_auth_definer reads and writes them: app.reserve_idempotency_key
-- returns a response to the user who got it first.
select schema_admin.isolate('app.idempotency_keys');
grant select, insert, update, delete on app.idempotency_keys to claims_auth_definer;
create policy idempotency_keys_auth_definer on app.idempotency_keys to claims_auth_definer using (true) with check (true);
