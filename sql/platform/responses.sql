-- JSON of the API's responses: a function for each resource, and for times and amounts. That of claims is in functions/claims_fields.sql.

-- A time in UTC with microseconds, as RFC 3339 has it.
create or replace function app.to_rfc3339(at timestamptz) returns text
language sql stable parallel safe
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- An amount in the currency's main unit, with two decimals.
create or replace function app.from_cents(cents bigint) returns numeric
language sql immutable parallel safe
return cents * 0.01;

create or replace function app.provider_json(p app.providers) returns json
language sql stable parallel safe
return json_build_object(
    'id', p.provider_id,
    'npi', p.npi,
    'name', p.name,
    'specialty', p.specialty,
    'email', p.email,
    'createdAt', to_rfc3339(p.created_at));

create or replace function app.patient_json(p app.patients) returns json
language sql stable parallel safe
return json_build_object(
    'id', p.patient_id,
    'memberNumber', p.member_number,
    'firstName', p.first_name,
    'lastName', p.last_name,
    'dateOfBirth', p.date_of_birth,
    'email', p.email,
    'phone', p.phone,
    'createdAt', to_rfc3339(p.created_at));

create or replace function app.event_json(
    e app.patient_status_events, job_status text default 'pending', job_result json default null) returns json
language sql stable parallel safe
return json_build_object(
    'id', e.event_id,
    'patientId', e.patient_id,
    'providerId', e.provider_id,
    'eventType', e.event_type,
    'occurredAt', to_rfc3339(e.occurred_at),
    'visitNumber', e.visit_number,
    'facility', e.facility,
    'notes', e.notes,
    'idempotencyKey', e.idempotency_key,
    'createdAt', to_rfc3339(e.created_at),
    'jobStatus', job_status,
    'jobResult', job_result);

create or replace function app.user_json(u app.users) returns json
language sql stable parallel safe
return json_build_object(
    'id', u.user_id,
    'email', u.email,
    'name', u.name,
    'role', u.role,
    'active', u.active,
    'providerId', u.provider_id,
    'patientId', u.patient_id,
    'createdAt', to_rfc3339(u.created_at));

-- The result of a job; null until it is completed. Results of before parts were introduced have no counts.
create or replace function app.job_result(j app.job_processing_logs) returns json
language sql stable parallel safe
return case
    when j.status <> 'completed' then null
    when j.result ->> 'updatedCount' is not null then j.result
    else (j.result::jsonb || jsonb_build_object(
        'updatedCount', json_array_length(j.result -> 'updated'), 'skippedCount', json_array_length(j.result -> 'skipped'),
        'failedCount', json_array_length(j.result -> 'failed')))::json end;

create or replace function app.job_json(j app.job_processing_logs) returns json
language sql stable parallel safe
return json_build_object(
    'id', j.job_id,
    'jobType', j.job_type,
    'status', j.status,
    'attempts', j.attempts,
    'eventId', j.event_id,
    'error', j.error,
    'result', job_result(j),
    'createdAt', to_rfc3339(j.created_at),
    'startedAt', to_rfc3339(j.started_at),
    'finishedAt', to_rfc3339(j.finished_at));

create or replace function app.audit_json(a app.audit_logs) returns json
language sql stable parallel safe
return json_build_object(
    'id', a.audit_id,
    'at', to_rfc3339(a.at),
    'actorUserId', a.actor_user_id,
    'actorRole', a.actor_role,
    'action', a.action,
    'entity', a.entity,
    'entityId', a.entity_id,
    'patientId', a.patient_id,
    'before', a.before,
    'after', a.after,
    'requestId', a.request_id,
    'address', a.address,
    'outcome', a.outcome);

create or replace function app.diagnosis_code_json(d app.diagnosis_codes) returns json
language sql stable parallel safe
return json_build_object(
    'code', d.code,
    'description', d.description,
    'billable', d.billable,
    'validFrom', nullif(d.valid_from, '-infinity'),
    'validUntil', nullif(d.valid_until, 'infinity'));

create or replace function app.settings_json(o app.organizations) returns json
language sql stable parallel safe
return json_build_object(
    'claimAmountLimit', from_cents(o.claim_amount_limit_cents),
    'autoApproveLimit', from_cents(o.auto_approve_limit_cents),
    'timezone', o.timezone,
    'decisionDays', o.decision_days,
    'appealWindowDays', o.appeal_window_days);

-- p_settings: of settings_json. Columns instead of a row, because not every role may read all of them.
create or replace function app.organization_json(p_id uuid, p_slug text, p_name text, p_settings json) returns json
language sql stable parallel safe
return json_build_object('id', p_id, 'slug', p_slug, 'name', p_name, 'settings', p_settings);

-- Columns instead of a row, because an admin may not read the hash of the token.
create or replace function app.invitation_json(
    p_id uuid, p_email text, p_role text, p_provider_id uuid, p_patient_id uuid, p_created_at timestamptz, p_expires_at timestamptz,
    p_accepted_at timestamptz) returns json
language sql stable parallel safe
return json_build_object(
    'id', p_id,
    'email', p_email,
    'role', p_role,
    'providerId', p_provider_id,
    'patientId', p_patient_id,
    'createdAt', to_rfc3339(p_created_at),
    'expiresAt', to_rfc3339(p_expires_at),
    'acceptedAt', to_rfc3339(p_accepted_at));

grant execute on function app.to_rfc3339, app.from_cents, app.provider_json, app.patient_json, app.event_json, app.job_result, app.audit_json,
    app.diagnosis_code_json, app.settings_json, app.organization_json
    to claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function app.to_rfc3339 to claims_auth_definer;  -- audit entries contain times in the API's format

-- Only admins list users and jobs. Other roles read their own user and the jobs of their events in other ways.
grant execute on function app.user_json, app.job_json, app.invitation_json to claims_admin;
