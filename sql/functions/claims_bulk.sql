-- Changes of many claims in one call. Each claim is independent: an error of one does not affect the others. All functions run as the
-- caller, under its policies.

-- The message of a conflict: its field and its problem, so that it names the cause. problems: {"field": ["problem"]}.
create or replace function app.conflict_message(problems jsonb) returns text
language sql immutable set search_path = app, pg_catalog, pg_temp
return coalesce(
    (select string_agg(format('%s: %s.', key, value ->> 0), ' ') from jsonb_each(problems)),
    'The record is not in a state that allows this, or the value is taken.');

-- An error as the API returns it: {"code", "message", "fields"}. state: the SQLSTATE it was raised with; 02000 for a row that does not
-- exist or that the caller can't see.
-- The messages are those of app/errors.py; tests/database/test_errors.py compares them.
create or replace function app.error_json(state text, detail text default null) returns jsonb
language sql immutable
return case state
    when 'INVAL' then jsonb_build_object(
        'code', 'VALIDATION_ERROR', 'message', 'The request is invalid. See details.fields.', 'fields', detail::jsonb)
    when 'TRANS' then jsonb_build_object(
        'code', 'CONFLICT', 'fields', jsonb_build_object(), 'message', coalesce(detail::jsonb ->> 'message', format(
            'A claim that is %s can''t become %s.', coalesce(detail::jsonb ->> 'from', 'new'), detail::jsonb ->> 'to')))
    when 'CLASH' then jsonb_build_object(
        'code', 'CONFLICT', 'message', conflict_message(detail::jsonb), 'fields', detail::jsonb)
    when '23505' then jsonb_build_object(
        'code', 'CONFLICT', 'message', conflict_message('{"claimNumber": ["Is taken"]}'),
        'fields', jsonb_build_object('claimNumber', jsonb_build_array('Is taken')))
    when '42501' then jsonb_build_object(
        'code', 'FORBIDDEN', 'message', coalesce(
            case when detail like '{%' then detail::jsonb ->> 'message' end,
            'Your role may not do this. The API reference names the roles that may.'),
        'fields', jsonb_build_object())
    when '02000' then jsonb_build_object(
        'code', 'NOT_FOUND', 'message', 'There is no such record, or you may not see it.', 'fields', jsonb_build_object())
    else jsonb_build_object('code', 'INTERNAL_ERROR', 'message', 'Something went wrong on our side.', 'fields', jsonb_build_object())
end;

-- The error of an import line: as error_json, and with the fields in details as well, as other error responses have them.
create or replace function app.line_error(state text, detail text default null) returns jsonb
language sql immutable set search_path = app, pg_catalog, pg_temp
return (
    select case when error -> 'fields' = '{}' then error
           else error || jsonb_build_object('details', jsonb_build_object('fields', error -> 'fields')) end
    from error_json(state, detail) as error);

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

-- True if an import line would leave an existing claim as it is: it has the same values, and does not submit a draft. A claim that was
-- created as the line says may have another status since.
create or replace function app.is_same_claim(c app.claims, line jsonb) returns boolean
language sql stable
return jsonb_populate_record(c, line - array['status', 'claim_number']
    || jsonb_build_object('diagnosis_code', app.icd10(line ->> 'diagnosis_code'))) is not distinct from c
    and (line ->> 'status' = 'draft' and exists (
            select from app.claim_status_history h where h.claim_id = c.claim_id and h.from_status is null and h.to_status = 'draft')
         or line ->> 'status' <> 'draft' and c.status <> 'draft');

-- Reserves an idempotency key for the whole body of an import. False: the key was used for another body in the last 24 hours.
create or replace function app.reserve_import(p_path text, p_key text, p_body_hash bytea) returns boolean
language sql set search_path = app, pg_catalog, pg_temp as $$
    select coalesce((select r.same from reserve_idempotency_key(p_path, p_key, p_body_hash) r), true)
$$;

-- The claim number of an import line without one: that of the request's idempotency key, the line's content and how many equal lines there
-- were. So the same line has the same number if the import is sent again. Without a key, a new number.
create or replace function app.line_claim_number(line jsonb, p_key text) returns text
language sql set search_path = app, pg_catalog, pg_temp as $$
    select case when p_key is null then new_claim_number() else 'CLM-' || upper(left(encode(sha256(convert_to(concat_ws(
        ' ', current_setting('app.user_id'), p_key,
        line - 'line' || jsonb_build_object('diagnosis_code', icd10(line ->> 'diagnosis_code'))), 'UTF8')), 'hex'), 16)) end
$$;

-- Creates a claim for each line. Returns {"line", "result": created|duplicate|failed, "id", "error"} for each, and "warnings" if a claim that
-- was created may be a duplicate. occurrence of a line without a claim number: how many lines had the same content, up to this one.
create or replace function app.import_claims(p_lines jsonb, p_key text) returns table (line integer, result json)
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    given jsonb;
    number text;
    stands claims;
    made claims;
    warnings json;
    why text;
begin
    for given in select value from jsonb_array_elements(p_lines) loop
        line := (given ->> 'line')::integer;
        number := coalesce(given ->> 'claim_number', line_claim_number(given, p_key));
        select c.* into stands from claims c where c.claim_number = number;
        if found and is_same_claim(stands, given) then
            result := json_build_object('line', line, 'result', 'duplicate', 'id', stands.claim_id, 'error', null);
        else
            begin
                made := insert_claim(given || jsonb_build_object('claim_number', number));
                warnings := case when given ->> 'claim_number' is null then possible_duplicates(made) end;
                result := case when warnings is null
                    then json_build_object('line', line, 'result', 'created', 'id', made.claim_id, 'error', null)
                    else json_build_object('line', line, 'result', 'created', 'id', made.claim_id, 'error', null, 'warnings', warnings) end;
            exception
                when sqlstate 'INVAL' or insufficient_privilege then
                    get stacked diagnostics why = pg_exception_detail;
                    if sqlstate = '42501' and why = '' and caller_role() = 'provider' then  -- the policy has refused the row
                        why := '{"message": "You may create records only for your own provider."}';
                    end if;
                    result := json_build_object('line', line, 'result', 'failed', 'id', null, 'error', line_error(sqlstate, why));
                when unique_violation then  -- a concurrent request, perhaps the same import, has inserted the number
                    select c.* into stands from claims c where c.claim_number = number;
                    result := case when is_same_claim(stands, given)
                        then json_build_object('line', line, 'result', 'duplicate', 'id', stands.claim_id, 'error', null)
                        else json_build_object('line', line, 'result', 'failed', 'id', null, 'error', line_error(sqlstate)) end;
            end;
        end if;
        return next;
    end loop;
end
$$;

grant execute on function app.error_json, app.conflict_message to claims_admin, claims_processor, claims_provider, claims_system;
grant execute on function app.is_same_claim, app.reserve_import, app.line_claim_number, app.line_error to claims_admin, claims_provider;
grant execute on function app.update_status_bulk to claims_admin, claims_processor;
grant execute on function app.import_claims to claims_admin, claims_provider;
