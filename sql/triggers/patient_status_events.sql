-- Triggers of patient_status_events, in the order in which they fire: `before` triggers first, then by name.
-- Rejects a patient or provider that the caller can't see, and a time out of range.
create or replace trigger patient_status_events_10_check before insert on app.patient_status_events
    for each row execute function app.check_event();
-- Adds the event's job to job_processing_logs and to the queue.
create or replace trigger patient_status_events_20_enqueue after insert on app.patient_status_events
    for each row execute function app.enqueue_event();
-- Audit entry for each change.
create or replace trigger patient_status_events_90_audit after insert or update or delete on app.patient_status_events
    for each row execute function app.audit_row('event_id');
