-- diagnosis_codes: public reference data, the same for all; nobody but the schema step writes it, as the administrator.
select schema_admin.drop_policies('app.diagnosis_codes');
alter table app.diagnosis_codes enable row level security, force row level security;
revoke all on app.diagnosis_codes from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.diagnosis_codes to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
create policy diagnosis_codes_select on app.diagnosis_codes for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
