-- Triggers of patients, in the order in which they fire: `before` triggers first, then by name.
-- Checks the member number, the names and the date of birth.
create or replace trigger patients_10_check before insert or update of member_number, first_name, last_name, date_of_birth on app.patients
    for each row execute function app.check_patient();
-- Adds the patient to the care of the provider who created it.
create or replace trigger patients_20_care_relationship after insert on app.patients
    for each row execute function app.add_care_relationship();
-- Audit entry for each change.
create or replace trigger patients_90_audit after insert or update or delete on app.patients
    for each row execute function app.audit_row('patient_id');
