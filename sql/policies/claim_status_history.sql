-- claim_status_history: a role that can read a claim can read its history. Only the trigger inserts (claims_trigger_definer). No role may
-- update or delete, not even the owner.
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
    -- A sub-select per row finds the claim by its key. An `exists` may become a hash join over all claims that the caller can see, for
    -- the few rows of one claim. `version` is in no index: a column of an index could lead to a scan of that index over all of a
    -- provider's claims.
    using ((select c.version > 0 from app.claims c where c.claim_id = claim_status_history.claim_id));
create policy claim_status_history_trigger_definer_insert on app.claim_status_history for insert to claims_trigger_definer
    with check (true);
create policy claim_status_history_reporting_select on app.claim_status_history for select to claims_reporting using (true);
