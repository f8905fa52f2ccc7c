-- Events of a patient by type, in the order in which they occurred: each effect looks up those around its own event.
set local search_path = app;
create index patient_status_events_occurred on patient_status_events (organization_id, patient_id, event_type, occurred_at);
