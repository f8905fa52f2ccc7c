-- Changes of many claims in one call. Each claim is independent: an error of one does not affect the others. All functions run as the
-- caller, under its policies.

-- An error as the API returns it: {"code", "message", "fields"}. state: the SQLSTATE it was raised with; 02000 for a row that does not
-- exist or that the caller can't see.
-- The messages are those of app/errors.py; tests/database/test_errors.py compares them.
create or replace function app.error_json(state text, detail text default null) returns jsonb
language sql immutable
return case state
    when 'INVAL' then jsonb_build_object(
        'code', 'VALIDATION_ERROR', 'message', 'The request is invalid. See details.fields.', 'fields', detail::jsonb)
    when 'TRANS' then jsonb_build_object(
        'code', 'CONFLICT', 'fields', jsonb_build_object(), 'message', format(
            'A claim that is %s can''t become %s.', coalesce(detail::jsonb ->> 'from', 'new'), detail::jsonb ->> 'to'))
    when 'CLASH' then jsonb_build_object(
        'code', 'CONFLICT', 'message', 'The record is not in a state that allows this, or the value is taken.', 'fields', detail::jsonb)
    when '23505' then jsonb_build_object(
        'code', 'CONFLICT', 'message', 'The record is not in a state that allows this, or the value is taken.',
        'fields', jsonb_build_object('claimNumber', jsonb_build_array('Is taken')))
    when '42501' then jsonb_build_object(
        'code', 'FORBIDDEN', 'message', 'Your role may not do this. The API reference names the roles that may.',
        'fields', jsonb_build_object())
    when '02000' then jsonb_build_object(
        'code', 'NOT_FOUND', 'message', 'There is no such record, or you may not see it.', 'fields', jsonb_build_object())
    else jsonb_build_object('code', 'INTERNAL_ERROR', 'message', 'Something went wrong on our side.', 'fields', jsonb_build_object())
end;

-- Changes the status of each claim. Returns {"updated": [ids], "failed": [{"id", "code", "message"}]}. In the order of the ids, so that two
-- calls for the same claims wait for each other instead of deadlocking.
create or replace function app.update_status_bulk(p_ids uuid[], p_status text, p_reason text, p_denial_reason text) returns json
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    one uuid;
    updated uuid[] := '{}';
    failed jsonb := '[]';
    why text;
begin
    for one in select distinct id from unnest(p_ids) as ids (id) order by id loop
        begin
            update claims set status = p_status, status_reason = p_reason, denial_reason = p_denial_reason, denial_code = null,
                approved_cents = null
            where claim_id = one;
            if found then
                updated := updated || one;
            else
                failed := failed || (jsonb_build_object('id', one) || error_json('02000') - 'fields');
            end if;
        exception when sqlstate 'INVAL' or sqlstate 'TRANS' or sqlstate 'CLASH' or insufficient_privilege then
            get stacked diagnostics why = pg_exception_detail;
            failed := failed || (jsonb_build_object('id', one) || error_json(sqlstate, why) - 'fields');
        end;
    end loop;
    return json_build_object('updated', updated, 'failed', failed);
end
$$;

-- True if an existing claim has the values of an import line, so that writing them again would change nothing. The status is not compared,
-- because it changes later.
create or replace function app.is_same_claim(c app.claims, line jsonb) returns boolean
language sql stable
return jsonb_populate_record(c, line - array['status', 'claim_number']
    || jsonb_build_object('diagnosis_code', app.icd10(line ->> 'diagnosis_code'))) is not distinct from c;

-- Creates a claim for each line. Returns {"line", "result": created|duplicate|failed, "id", "error"} for each. If the request has an
-- idempotency key, a line without a claim number gets one that is derived from the key and the line's position. If the same import is
-- sent again, the line is found to be a duplicate.
create or replace function app.import_claims(p_lines jsonb, p_key text) returns table (line integer, result json)
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    given jsonb;
    number text;
    stands claims;
    made uuid;
    why text;
begin
    for given in select value from jsonb_array_elements(p_lines) loop
        line := (given ->> 'line')::integer;
        number := coalesce(given ->> 'claim_number', 'CLM-' || upper(left(encode(sha256(convert_to(
            concat_ws(' ', current_setting('app.user_id'), p_key, line), 'UTF8')), 'hex'), 16)));
        if p_key is null and given ->> 'claim_number' is null then
            number := new_claim_number();
        end if;
        select c.* into stands from claims c where c.claim_number = number;
        if found and is_same_claim(stands, given) then
            result := json_build_object('line', line, 'result', 'duplicate', 'id', stands.claim_id, 'error', null);
        else
            begin
                made := insert_claim(given || jsonb_build_object('claim_number', number));
                result := json_build_object('line', line, 'result', 'created', 'id', made, 'error', null);
            exception
                when sqlstate 'INVAL' or insufficient_privilege then
                    get stacked diagnostics why = pg_exception_detail;
                    result := json_build_object('line', line, 'result', 'failed', 'id', null, 'error', error_json(sqlstate, why));
                when unique_violation then  -- a concurrent request, perhaps the same import, has inserted the number
                    select c.* into stands from claims c where c.claim_number = number;
                    result := case when is_same_claim(stands, given)
                        then json_build_object('line', line, 'result', 'duplicate', 'id', stands.claim_id, 'error', null)
                        else json_build_object('line', line, 'result', 'failed', 'id', null, 'error', error_json(sqlstate)) end;
            end;
        end if;
        return next;
    end loop;
end
$$;

grant execute on function app.error_json to claims_admin, claims_processor, claims_provider, claims_system;
grant execute on function app.is_same_claim to claims_admin, claims_provider;
grant execute on function app.update_status_bulk to claims_admin, claims_processor;
grant execute on function app.import_claims to claims_admin, claims_provider;
