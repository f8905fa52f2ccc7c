set local search_path = app;
alter table audit_logs
    add constraint audit_logs_organization_id_fkey foreign key (organization_id) references organizations not valid,
    add constraint audit_logs_actor_role_check check (length(actor_role) <= 63) not valid,
    add constraint audit_logs_entity_check check (length(entity) <= 63) not valid,
    add constraint audit_logs_outcome_check check (length(outcome) <= 200) not valid,
    add constraint audit_logs_request_id_check check (length(request_id) <= 128) not valid,
    add constraint audit_logs_address_check check (length(address) <= 64) not valid;
alter table claims add constraint claims_organization_id_fkey foreign key (organization_id) references organizations not valid;
alter table claim_status_history
    add constraint claim_status_history_organization_id_fkey foreign key (organization_id) references organizations not valid;
alter table care_relationships
    add constraint care_relationships_organization_id_fkey foreign key (organization_id) references organizations not valid;
alter table patient_status_events
    add constraint patient_status_events_organization_id_fkey foreign key (organization_id) references organizations not valid;
alter table idempotency_keys
    add constraint idempotency_keys_organization_id_fkey foreign key (organization_id) references organizations not valid;
