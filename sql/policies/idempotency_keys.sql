-- idempotency_keys: answers kept for those they were given to. Nobody reads the table itself: app.take_key (claims_gate) gives a
-- caller its own answer and no other.
select schema_admin.drop_policies('app.idempotency_keys');
alter table app.idempotency_keys enable row level security, force row level security;
revoke all on app.idempotency_keys from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select, insert, update, delete on app.idempotency_keys to claims_gate;
create policy idempotency_keys_tenant on app.idempotency_keys as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy idempotency_keys_entered on app.idempotency_keys as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy idempotency_keys_signed on app.idempotency_keys as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy idempotency_keys_gate on app.idempotency_keys to claims_gate using (true) with check (true);
