-- Idempotency keys of events belong to their sender: two hospital systems may both number their messages from 1. The staff of the
-- organization are one sender.
set local search_path = app;
alter table patient_status_events add column sender_provider_id uuid;
comment on column patient_status_events.sender_provider_id is 'Provider whose user reported the event; null for staff of the organization.';
alter table patient_status_events drop constraint patient_status_events_idempotency_key_key;
create unique index patient_status_events_idempotency_key_key
    on patient_status_events (organization_id, idempotency_key, sender_provider_id) nulls not distinct
    where idempotency_key is not null;
