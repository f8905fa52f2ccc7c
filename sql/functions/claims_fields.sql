-- The fields of a claim in JSON: claim_json writes them in responses, insert_claim reads them from imports. POST /api/claims inserts the
-- columns of NewClaim by itself (sql/queries/claims.sql).

-- The type of claim_json's rows. row_to_json over named columns takes two thirds of json_build_object's time, and lists have many claims. A
-- subselect with aliases would name each column once, but PostgreSQL does not inline a function with a subselect: 1.8 times the time.
select schema_admin.define_type('app.claim_response',
    'id uuid, "claimNumber" text, "patientId" uuid, "providerId" uuid, "diagnosisCode" text, amount numeric, "approvedAmount" numeric, '
    '"serviceDate" date, status text, notes text, "denialReason" text, "denialCode" text, "assignedTo" uuid, "submittedAt" text, '
    '"processedAt" text, "paidAt" text, "createdAt" text, "updatedAt" text, version integer');

create or replace function app.claim_json(c app.claims) returns json
language sql stable parallel safe
return row_to_json(row(
    c.claim_id, c.claim_number, c.patient_id, c.provider_id, c.diagnosis_code, from_cents(c.amount_cents), from_cents(c.approved_cents),
    c.service_date, c.status, c.notes, c.denial_reason, c.denial_code, c.assigned_to, to_rfc3339(c.submitted_at), to_rfc3339(c.processed_at),
    to_rfc3339(c.paid_at), to_rfc3339(c.created_at), to_rfc3339(c.updated_at), c.version)::claim_response);

-- Inserts a claim and returns its id. given: the columns of NewClaim, with a claim number.
create or replace function app.insert_claim(given jsonb) returns uuid
language plpgsql as $$
declare
    new_id uuid;
begin
    insert into app.claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
    select claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes
    from jsonb_populate_record(null::app.claims, given)
    returning claim_id into new_id;
    return new_id;
end
$$;

grant execute on function app.claim_json to claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function app.insert_claim to claims_admin, claims_provider;
