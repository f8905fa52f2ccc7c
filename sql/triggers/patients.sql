-- Triggers of patients, in the order in which they fire: `before` first, then by name.
create or replace trigger patients_20_care_relationship after insert on app.patients for each row execute function app.add_care_relationship();
create or replace trigger patients_90_audit after insert or update or delete on app.patients
    for each row execute function app.audit_row('patient_id');
