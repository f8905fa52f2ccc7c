-- What every insert paid for and another constraint holds already.
set local search_path = app;
-- Each of these tables has a key to a row of the same organization: that row's own key leads to organizations.
alter table claims drop constraint claims_organization_id_fkey;
alter table claim_status_history drop constraint claim_status_history_organization_id_fkey;
alter table care_relationships drop constraint care_relationships_organization_id_fkey;
alter table patient_status_events drop constraint patient_status_events_organization_id_fkey;
alter table idempotency_keys drop constraint idempotency_keys_organization_id_fkey;
-- An entry's organization is the one that was entered (its policies), and the trail may outlive its organization. The sizes: what a caller
-- chooses is checked by app.write_audit_entry and app.record_access; the rest is signed by the API.
alter table audit_logs
    drop constraint audit_logs_organization_id_fkey,
    drop constraint audit_logs_actor_role_check, drop constraint audit_logs_entity_check, drop constraint audit_logs_outcome_check,
    drop constraint audit_logs_request_id_check, drop constraint audit_logs_address_check;
