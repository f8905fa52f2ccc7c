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

-- Inserts a claim and returns it. given: the columns of NewClaim, with a claim number.
create or replace function app.insert_claim(given jsonb) returns app.claims
language plpgsql as $$
declare
    made app.claims;
begin
    insert into app.claims as c (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
    select claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes
    from jsonb_populate_record(null::app.claims, given)
    returning c.* into made;
    return made;
end
$$;

-- The warnings about a new claim, as JSON; null if there are none. Another claim with the same patient, provider, code, day and amount may be
-- the same one, sent twice. Drafts and voided claims do not count. It runs as the caller, so it names only claims that the caller may see.
create or replace function app.possible_duplicates(new_claim app.claims) returns json
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    others uuid[];
begin
    if new_claim.status = 'draft' then
        return null;
    end if;
    others := array(
        select c.claim_id from claims c
        where c.patient_id = new_claim.patient_id and c.provider_id = new_claim.provider_id and c.service_date = new_claim.service_date
          and c.diagnosis_code = new_claim.diagnosis_code and c.amount_cents = new_claim.amount_cents
          and c.status not in ('draft', 'voided') and c.claim_id <> new_claim.claim_id
        limit 10);
    if others = '{}' then
        return null;
    end if;
    return json_build_array(json_build_object(
        'code', 'POSSIBLE_DUPLICATE',
        'message', 'There is already a claim with this patient, provider, diagnosis code, service date and amount.',
        'claimIds', others));
end
$$;
grant execute on function app.possible_duplicates to claims_admin, claims_provider;

grant execute on function app.claim_json to claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function app.insert_claim to claims_admin, claims_provider;
