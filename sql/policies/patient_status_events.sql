-- patient_status_events: a role that can read a patient can read the patient's events. Admins add events for all patients, providers for
-- patients in their care. An event is never updated; a later event cancels it.
select schema_admin.isolate('app.patient_status_events');
grant select on app.patient_status_events
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer;
grant insert (patient_id, provider_id, event_type, occurred_at, visit_number, facility, notes, idempotency_key)
    on app.patient_status_events to claims_admin, claims_provider;
grant select (organization_id, event_id, patient_id, provider_id, event_type, occurred_at, created_at)
    on app.patient_status_events to claims_reporting;
grant select (visit_number, facility, notes) on app.patient_status_events to claims_reporting_personal;
create policy patient_status_events_admin_select on app.patient_status_events for select
    to claims_admin, claims_system, claims_auth_definer using (true);
create policy patient_status_events_member_select on app.patient_status_events for select
    to claims_processor, claims_provider, claims_patient
    using (exists (select from app.patients p where p.patient_id = patient_status_events.patient_id));
create policy patient_status_events_admin_insert on app.patient_status_events for insert to claims_admin with check (true);
create policy patient_status_events_provider_insert on app.patient_status_events for insert to claims_provider
    with check (exists (select from app.patients p where p.patient_id = patient_status_events.patient_id));
create policy patient_status_events_reporting_select on app.patient_status_events for select to claims_reporting using (true);
