-- idempotency_keys: answers kept for those they were given to. Nobody reads the table itself: app.reserve_idempotency_key (claims_auth_definer) gives a
-- caller its own answer and no other.
select schema_admin.isolate('app.idempotency_keys');
grant select, insert, update, delete on app.idempotency_keys to claims_auth_definer;
create policy idempotency_keys_auth_definer on app.idempotency_keys to claims_auth_definer using (true) with check (true);
