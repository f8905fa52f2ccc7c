-- diagnosis_codes: public reference data, the same for all organizations. Only the schema step writes it, as the administrator.
select schema_admin.close_table('app.diagnosis_codes');
grant select on app.diagnosis_codes to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
create policy diagnosis_codes_select on app.diagnosis_codes for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
