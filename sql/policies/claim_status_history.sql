-- claim_status_history: who sees a claim sees its history. Only the trigger adds (claims_trigger_definer); nobody changes or removes,
-- the owner neither.
select schema_admin.isolate('app.claim_status_history');
revoke update, delete, truncate on app.claim_status_history from claims_owner;
grant select on app.claim_status_history to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert on app.claim_status_history to claims_trigger_definer;
grant select (organization_id, claim_id, version, from_status, to_status, at, by_role, source, event_id)
    on app.claim_status_history to claims_reporting;
grant select (by_user_id, reason) on app.claim_status_history to claims_reporting_personal;
create policy claim_status_history_admin_select on app.claim_status_history for select to claims_admin, claims_system using (true);
create policy claim_status_history_member_select on app.claim_status_history for select
    to claims_processor, claims_provider, claims_patient
    -- No `exists`: that may become a hash of all claims the caller sees, for the few rows of one claim. A column that is in no index:
    -- else that may be one of all claims of a provider, read from end to end.
    using ((select c.version > 0 from app.claims c where c.claim_id = claim_status_history.claim_id));
create policy claim_status_history_trigger_definer_insert on app.claim_status_history for insert to claims_trigger_definer with check (true);
create policy claim_status_history_reporting_select on app.claim_status_history for select to claims_reporting using (true);
