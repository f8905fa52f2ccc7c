-- Triggers of patients, in the order in which they fire: `before` triggers first, then by name.
-- Adds the patient to the care of the provider who created it.
create or replace trigger patients_20_care_relationship after insert on app.patients
    for each row execute function app.add_care_relationship();
-- Audit entry for each change.
create or replace trigger patients_90_audit after insert or update or delete on app.patients
    for each row execute function app.audit_row('patient_id');
