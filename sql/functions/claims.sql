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
    select claim_amount_limit_cents, (now() at time zone timezone)::date
    from organizations where organization_id = organization_id()
$$;
alter function app.claim_limits owner to claims_auth_definer;

-- The errors of a claim by API field; {} if there are none. It runs as the caller, so a patient that does not exist and one the caller
-- can't see give the same error.
create or replace function app.claim_errors(c app.claims) returns jsonb
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select coalesce(jsonb_object_agg(field, jsonb_build_array(problem)), '{}')
    from claim_limits() as l, diagnosis_code_error(c.diagnosis_code, c.service_date) as code_error, lateral (values
        ('amount', 'Must not exceed the organization''s limit of ' || from_cents(l.amount_limit_cents),
            c.amount_cents > l.amount_limit_cents),
        ('serviceDate', 'Must not lie in the future or before 1900', c.service_date not between '1900-01-01' and l.today),
        ('diagnosisCode', code_error, code_error is not null),
        ('patientId', 'No such patient', not exists (select from patients p where p.patient_id = c.patient_id)),
        ('providerId', 'No such provider', not exists (select from providers p where p.provider_id = c.provider_id))
    ) as checks (field, problem, failed)
    where failed
$$;

-- Raises TRANS for an illegal change of status. The detail has both statuses, and those that the caller may choose instead.
create or replace function app.raise_illegal_transition(old_status text, new_status text) returns void
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    raise exception using errcode = 'TRANS', message = 'illegal status move', detail = json_build_object(
        'from', nullif(old_status, ''), 'to', new_status, 'allowed', (
            select coalesce(json_agg(to_status order by to_status), '[]')
            from claim_transitions where from_status = old_status and role = caller_role()))::text;
end
$$;

-- The row of claim_transitions that allows the caller this change of status. Raises 42501 if only other roles may make it, TRANS if none
-- may.
create or replace function app.find_transition(old_status text, new_status text) returns app.claim_transitions
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    move claim_transitions;
begin
    select * into move from claim_transitions
    where from_status = old_status and to_status = new_status and role = caller_role();
    if not found then
        if exists (select from claim_transitions where from_status = old_status and to_status = new_status) then
            raise exception using errcode = '42501', message = 'this move belongs to other roles';
        end if;
        perform raise_illegal_transition(old_status, new_status);
    end if;
    return move;
end
$$;

create or replace function app.validate_new_claim() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    perform find_transition('', new.status);
    new.diagnosis_code := icd10(new.diagnosis_code);
    perform raise_invalid(claim_errors(new));
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
            if old_row.processed_at < now() - make_interval(days => appeal_window_days()) then
                perform raise_illegal_transition(old_row.status, new_row.status);
            end if;
        when 'partially_approved' then
            if old_row.approved_cents >= old_row.amount_cents then
                perform raise_illegal_transition(old_row.status, new_row.status);
            end if;
        when 'not_decider' then
            if old_row.decided_by = context.required_id(current_user, 'user_id') then
                raise exception using errcode = '42501', message = 'who decided a claim does not take up its appeal';
            end if;
        when 'system_reverts_own' then
            if move.role = 'system' and (old_row.status_event_id is null or old_row.status_by is not null) then
                perform raise_illegal_transition(old_row.status, new_row.status);
            end if;
        end case;
    end if;
end
$$;

create or replace function app.appeal_window_days() returns integer
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    select appeal_window_days from organizations where organization_id = organization_id()
$$;
alter function app.appeal_window_days owner to claims_auth_definer;

create or replace function app.apply_transition() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    move claim_transitions := find_transition(old.status, new.status);
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
    app.claim_statuses, app.find_transition, app.raise_illegal_transition, app.check_transition, app.appeal_window_days
    to claims_admin, claims_processor, claims_provider, claims_system, claims_patient;
grant execute on function app.icd10 to claims_api;
