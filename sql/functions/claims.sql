-- The rules of a claim: what a new claim must fulfil, which changes of status are legal, and what each one sets.

-- The role of the caller under the product's name; null without a context.
create or replace function app.caller_role() returns text
language sql stable parallel safe
return case current_user
    when 'claims_admin' then 'admin'
    when 'claims_processor' then 'claims_processor'
    when 'claims_provider' then 'provider'
    when 'claims_patient' then 'patient'
    when 'claims_system' then 'system'
end;

-- All statuses, in the order of a claim's life.
create or replace function app.claim_statuses() returns setof text
language sql immutable parallel safe as $$
    select unnest(array['draft', 'submitted', 'under_review', 'pending_info', 'approved', 'rejected', 'paid', 'appealed',
                        'voided', 'reversed'])
$$;

-- Normalizes an ICD-10-CM code to upper case with a dot: e119 and E11.9 are the same code.
create or replace function app.icd10(code text) returns text
language sql immutable strict parallel safe
return regexp_replace(regexp_replace(upper(code), '^(.{3})\.', '\1'), '^(.{3})(.+)$', '\1.\2');

-- Two facts about the organization that every new claim is checked against. A definer function, because providers may not read the
-- settings.
create or replace function app.claim_limits(out amount_limit_cents bigint, out today date)
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    select claim_amount_limit_cents, local_day(timezone, now())
    from organizations where organization_id = organization_id()
$$;
alter function app.claim_limits owner to claims_auth_definer;

-- The errors of a claim by API field; {} if there are none. It runs as the caller, so a patient that does not exist and one the caller
-- can't see give the same error.
create or replace function app.claim_errors(c app.claims) returns jsonb
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select coalesce(jsonb_object_agg(field, jsonb_build_array(problem)), '{}')
    from claim_limits() as l left join patients p on p.patient_id = c.patient_id
    cross join diagnosis_code_error(c.diagnosis_code, c.service_date) as code_error, lateral (values
        ('amount', 'Must not exceed the organization''s limit of ' || from_cents(l.amount_limit_cents),
            c.amount_cents > l.amount_limit_cents),
        ('serviceDate', case when c.service_date < p.date_of_birth and c.service_date >= '1900-01-01'
            then 'Must not lie before the patient''s birth' else 'Must not lie in the future or before 1900' end,
            c.service_date not between greatest('1900-01-01', p.date_of_birth) and l.today),
        ('diagnosisCode', code_error, code_error is not null),
        ('patientId', 'No such patient', p.patient_id is null),
        ('providerId', 'No such provider', not exists (select from providers p where p.provider_id = c.provider_id))
    ) as checks (field, problem, failed)
    where failed
$$;

-- The last day on which a decision made at this instant may be appealed, by the organization's calendar. A definer function, because
-- providers may not read the settings.
create or replace function app.appeal_until(decided_at timestamptz) returns date
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    select local_day(timezone, decided_at) + appeal_window_days from organizations where organization_id = organization_id()
$$;
alter function app.appeal_until owner to claims_auth_definer;

-- True if a job may decide the claim: only the first decision may be automatic, and only if no user has returned the claim with a question.
-- An automatic approval that was undone does not count.
create or replace function app.job_may_decide(c app.claims) returns boolean
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select c.first_decided_at is null and not exists (
        select from claim_status_history h
        where h.claim_id = c.claim_id and h.to_status = 'pending_info' and h.by_user_id is not null)
$$;

-- True if the state of the claim allows the transition. A rule about the new values (all_checks, amount_in_range) does not count here.
create or replace function app.is_open_transition(move app.claim_transitions, c app.claims) returns boolean
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
begin
    return coalesce(case move.rule
        when 'within_appeal_window' then (claim_limits()).today <= appeal_until(c.processed_at)
        when 'partially_approved' then c.approved_cents < c.amount_cents
        when 'not_decider' then c.decided_by <> context.required_id(current_user, 'user_id')
        when 'system_reverts_own' then move.role <> 'system' or (c.status_event_id is not null and c.status_by is null)
        end, true);
end
$$;

-- Raises TRANS for an illegal change of status. The detail has both statuses, those that the caller may choose instead and, if the
-- transition itself exists, what keeps this claim from it. c: null for a new claim.
create or replace function app.raise_illegal_transition(c app.claims, new_status text, cause jsonb default '{}') returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    raise exception using errcode = 'TRANS', message = 'illegal status move', detail = (jsonb_build_object(
        'from', c.status, 'to', new_status, 'allowed', (
            select coalesce(jsonb_agg(t.to_status order by t.to_status), '[]')
            from claim_transitions t
            where t.from_status = coalesce(c.status, '') and t.role = caller_role() and is_open_transition(t, c))) || cause)::text;
end
$$;

-- Raises 42501 with the text for the client: which role may do this, or what keeps this caller from it.
create or replace function app.raise_forbidden(cause text) returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    raise exception using errcode = '42501', message = 'forbidden', detail = json_build_object('message', cause)::text;
end
$$;

-- The row of claim_transitions that allows the caller this change of status. Raises 42501 if only other roles may make it, TRANS if none
-- may. c: null for a new claim.
create or replace function app.find_transition(c app.claims, new_status text) returns app.claim_transitions
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    old_status text := coalesce(c.status, '');
    move claim_transitions;
    others text;
begin
    select * into move from claim_transitions
    where from_status = old_status and to_status = new_status and role = caller_role();
    if not found then
        select string_agg(t.role, ', ' order by t.role) into others
        from claim_transitions t where t.from_status = old_status and t.to_status = new_status;
        if others is not null then
            perform raise_forbidden(format('Your role may not make this change of status. Allowed roles: %s.', others));
        end if;
        perform raise_illegal_transition(c, new_status);
    end if;
    return move;
end
$$;

create or replace function app.validate_new_claim() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    perform find_transition(null, new.status);
    new.diagnosis_code := icd10(new.diagnosis_code);
    new.claim_number := trim_number(new.claim_number);
    perform raise_invalid(claim_errors(new));
    if is_blank(new.claim_number) or not is_clean_number(new.claim_number) then
        perform raise_invalid(text_errors('{}', jsonb_build_object('claimNumber', new.claim_number)));
    end if;
    new.submitted_at := case when new.status = 'submitted' then now() end;
    return new;
end
$$;

create or replace function app.bump_claim_version() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if new.notes is distinct from old.notes
       and old.status not in ('draft', 'submitted', 'under_review', 'pending_info', 'appealed') then
        perform raise_conflict('{"notes": ["Can''t be changed once a claim is decided"]}');
    end if;
    new.version := old.version + 1;
    new.updated_at := now();
    return new;
end
$$;

-- Checks the requirements of a transition, by the columns of its row in claim_transitions. A rule without a branch raises case_not_found.
create or replace function app.check_transition(move app.claim_transitions, old_row app.claims, new_row app.claims) returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if move.needs_reason and new_row.status_reason is null then
        perform raise_invalid('{"reason": ["Is required for this change of status"]}');
    elsif move.needs_denial_reason and new_row.denial_reason is null then
        perform raise_invalid('{"denialReason": ["Is required for a rejection"]}');
    elsif is_blank(new_row.status_reason) or is_blank(new_row.denial_reason) or is_blank(new_row.denial_code) then
        perform raise_invalid(text_errors(jsonb_strip_nulls(jsonb_build_object(
            'reason', new_row.status_reason, 'denialReason', new_row.denial_reason, 'denialCode', new_row.denial_code))));
    end if;
    if move.role = 'system' and new_row.status in ('approved', 'rejected') and not job_may_decide(old_row) then
        perform raise_illegal_transition(old_row, new_row.status);
    end if;
    if move.rule is not null then
        case move.rule
        when 'all_checks' then
            perform raise_invalid(claim_errors(new_row));
        when 'amount_in_range' then
            if new_row.approved_cents not between 0 and old_row.amount_cents then
                perform raise_invalid('{"approvedAmount": ["Must be between 0 and the claim''s amount"]}');
            end if;
        when 'within_appeal_window' then
            if not is_open_transition(move, old_row) then
                perform raise_illegal_transition(old_row, new_row.status, jsonb_build_object(
                    'appealUntil', appeal_until(old_row.processed_at),
                    'message', format('The decision could be appealed until %s.', appeal_until(old_row.processed_at))));
            end if;
        when 'partially_approved' then
            if not is_open_transition(move, old_row) then
                perform raise_illegal_transition(old_row, new_row.status, jsonb_build_object(
                    'message', 'The claim was approved in full. Only a smaller approval or a rejection can be appealed.'));
            end if;
        when 'not_decider' then
            if not is_open_transition(move, old_row) then
                perform raise_forbidden('You decided this claim. Another user must take up its appeal.');
            end if;
        when 'system_reverts_own' then
            if not is_open_transition(move, old_row) then
                perform raise_illegal_transition(old_row, new_row.status);
            end if;
        end case;
    end if;
end
$$;

create or replace function app.apply_transition() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    move claim_transitions := find_transition(old, new.status);
begin
    new.approved_cents := case new.status
        when 'approved' then coalesce(new.approved_cents, old.amount_cents)
        when 'under_review' then null
        when 'rejected' then null
        else old.approved_cents end;
    new.denial_reason := case new.status
        when 'rejected' then new.denial_reason when 'approved' then null else old.denial_reason end;
    new.denial_code := case new.status
        when 'rejected' then new.denial_code when 'approved' then null else old.denial_code end;
    perform check_transition(move, old, new);
    -- Submitting a draft does not count as working on the claim.
    new.status_by := case when old.status <> 'draft' then context.required_id(current_user, 'user_id') end;
    if move.role <> 'system' then
        new.status_event_id := null;
    end if;
    if new.status in ('approved', 'rejected') then
        new.decision := new.status;
        new.decided_by := new.status_by;
        new.processed_at := now();
        new.first_decided_at := coalesce(old.first_decided_at, now());
    elsif new.status = 'paid' then
        new.paid_at := now();
    elsif old.status = 'draft' and new.status = 'submitted' then
        new.submitted_at := now();
    elsif new.status = 'appealed' then
        -- The appeal returns to the queue, because its decider may not take it up.
        new.assigned_to := null;
    elsif move.role = 'system' and old.status = 'approved' and new.status = 'under_review' then
        -- An automatic approval that is undone counts as if it had never been made.
        new.decision := null;
        new.decided_by := null;
        new.processed_at := null;
        new.first_decided_at := null;
    end if;
    return new;
end
$$;

-- Trigger: adds the new status to claim_status_history, as claims_trigger_definer, which alone may insert there.
create or replace function app.record_status_change() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    insert into claim_status_history (
        organization_id, claim_id, version, from_status, to_status, by_user_id, by_role, reason, source, event_id)
    values (
        new.organization_id, new.claim_id, new.version, case when tg_op = 'UPDATE' then old.status end, new.status,
        nullif(current_setting('app.user_id'), '')::uuid, current_setting('app.role'), new.status_reason,
        coalesce(nullif(current_setting('app.source', true), ''), 'sql'), new.status_event_id);
    return null;
end
$$;
alter function app.record_status_change owner to claims_trigger_definer;

grant execute on function app.caller_role, app.icd10, app.claim_limits, app.claim_errors,
    app.claim_statuses, app.find_transition, app.raise_illegal_transition, app.check_transition, app.appeal_until,
    app.is_open_transition, app.job_may_decide, app.raise_forbidden
    to claims_admin, claims_processor, claims_provider, claims_system, claims_patient;
grant execute on function app.icd10 to claims_api;
