-- Triggers of care_relationships, in the order in which they fire: `before` triggers first, then by name.
-- Audit entry for each change.
create or replace trigger care_relationships_90_audit after insert or update or delete on app.care_relationships
    for each row execute function app.audit_row('patient_id');
