-- Triggers of patient_status_events, in the order in which they fire: `before` first, then by name.
create or replace trigger patient_status_events_10_check before insert on app.patient_status_events
    for each row execute function app.check_event();
create or replace trigger patient_status_events_20_enqueue after insert on app.patient_status_events
    for each row execute function app.enqueue_event();
create or replace trigger patient_status_events_90_audit after insert or update or delete on app.patient_status_events
    for each row execute function app.audit_row('event_id');
