-- Drops constraints that every insert pays for and that other constraints or functions already ensure.
set local search_path = app;
-- Each of these tables has a foreign key to a row of the same organization, which itself refers to organizations.
alter table claims drop constraint claims_organization_id_fkey;
alter table claim_status_history drop constraint claim_status_history_organization_id_fkey;
alter table care_relationships drop constraint care_relationships_organization_id_fkey;
alter table patient_status_events drop constraint patient_status_events_organization_id_fkey;
alter table idempotency_keys drop constraint idempotency_keys_organization_id_fkey;
-- The policies ensure that an entry has the organization of the context, and the audit log may outlive its organization. Sizes:
-- app.write_audit_entry and app.record_access check what a caller chooses, and the API signs the rest.
alter table audit_logs
    drop constraint audit_logs_organization_id_fkey,
    drop constraint audit_logs_actor_role_check, drop constraint audit_logs_entity_check, drop constraint audit_logs_outcome_check,
    drop constraint audit_logs_request_id_check, drop constraint audit_logs_address_check;
