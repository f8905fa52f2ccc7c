-- claim_status_history: who sees a claim sees its history. Only the trigger adds (claims_recorder); nobody changes or removes,
-- the owner neither.
select schema_admin.drop_policies('app.claim_status_history');
alter table app.claim_status_history enable row level security, force row level security;
revoke all on app.claim_status_history from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
revoke update, delete, truncate on app.claim_status_history from claims_owner;
grant select on app.claim_status_history to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert on app.claim_status_history to claims_recorder;
revoke all on app.claim_status_history from claims_reporting, claims_reporting_personal;
grant select (organization_id, claim_id, version, from_status, to_status, at, by_role, source, event_id)
    on app.claim_status_history to claims_reporting;
grant select (by_user_id, reason) on app.claim_status_history to claims_reporting_personal;
create policy claim_status_history_tenant on app.claim_status_history as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
create policy claim_status_history_entered on app.claim_status_history as restrictive to public     -- whatever rows there are, a scan begins by checking the context
    using (organization_id = (select ctx.entered(current_user))) with check (true);
create policy claim_status_history_signed on app.claim_status_history as restrictive to public     -- nor of another than was entered
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy claim_status_history_admin_select on app.claim_status_history for select to claims_admin, claims_system using (true);
create policy claim_status_history_member_select on app.claim_status_history for select
    to claims_processor, claims_provider, claims_patient
    -- No `exists`: that may become a hash of all claims the caller sees, for the few rows of one claim. A column that is in no index:
    -- else that may be one of all claims of a provider, read from end to end.
    using ((select c.version > 0 from app.claims c where c.claim_id = claim_status_history.claim_id));
create policy claim_status_history_recorder_insert on app.claim_status_history for insert to claims_recorder with check (true);
create policy claim_status_history_reporting_select on app.claim_status_history for select to claims_reporting using (true);
