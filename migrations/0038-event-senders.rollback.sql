set local search_path = app;
drop index patient_status_events_idempotency_key_key;
alter table patient_status_events add constraint patient_status_events_idempotency_key_key unique (organization_id, idempotency_key);
alter table patient_status_events drop column sender_provider_id;
