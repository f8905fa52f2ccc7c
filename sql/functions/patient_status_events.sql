-- Effects of a patient status event on the patient's claims. The order of events is that of occurred_at, not of their arrival.
-- Every effect returns {"updated": [ids], "skipped": [{"id", "reason"}], "failed": [{"id", "code"}]}.

-- Trigger: rejects an event whose patient or provider the caller can't see, or whose time is out of range. An id of another organization
-- gives the same error as an unknown one.
create or replace function app.check_event() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    new.visit_number := trim_number(new.visit_number);
    if is_blank(new.visit_number) or not is_clean_number(new.visit_number) or is_blank(new.facility) then
        perform raise_invalid(text_errors(
            jsonb_strip_nulls(jsonb_build_object('facility', new.facility)),
            jsonb_strip_nulls(jsonb_build_object('visitNumber', new.visit_number))));
    end if;
    perform raise_invalid((
        select coalesce(jsonb_object_agg(field, jsonb_build_array(problem)), '{}')
        from (values
            ('patientId', 'No such patient',
                not exists (select from patients p where p.patient_id = new.patient_id)),
            ('providerId', 'No such provider', new.provider_id is not null
                and not exists (select from providers p where p.provider_id = new.provider_id)),
            ('occurredAt', 'Must not lie in the future or before 1900',
                new.occurred_at not between '1900-01-01' and now() + interval '5 minutes')
        ) as checks (field, problem, failed)
        where failed));
    if local_day((organization_days()).zone, new.occurred_at)
       < (select p.date_of_birth from patients p where p.patient_id = new.patient_id)
    then
        perform raise_invalid('{"occurredAt": ["Must not lie before the patient''s birth"]}');
    end if;
    return new;
end
$$;

-- Trigger: adds the job of a new event to job_processing_logs and to the queue. Event and job are one statement, so every event has a
-- job, and no role of the product can enqueue anything else. The job's arguments are ids only. Its lock keeps the jobs of one patient in
-- order.
create or replace function app.enqueue_event() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    type_of_job text := event_job_type(new.event_type);
begin
    insert into job_processing_logs (organization_id, job_type, event_id, patient_id)
    values (new.organization_id, type_of_job, new.event_id, new.patient_id);
    perform defer_job(type_of_job, new.organization_id, new.event_id, new.patient_id);
    return null;
end
$$;

-- Adds a job to the queue.
create or replace function app.defer_job(type_of_job text, p_organization_id uuid, p_event_id uuid, p_patient_id uuid) returns void
language sql set search_path = procrastinate, pg_catalog, pg_temp as $$
    select procrastinate_defer_jobs_v1(array[row(
        'patient_status', type_of_job, 0, p_organization_id || ':' || p_patient_id, null,
        jsonb_build_object('organization_id', p_organization_id, 'event_id', p_event_id), null
    )]::procrastinate_job_to_defer_v1[])
$$;
grant execute on function app.defer_job to claims_trigger_definer;

alter function app.enqueue_event owner to claims_trigger_definer;

-- The type of the job that an event starts; null for a type that has none.
create or replace function app.event_job_type(event_type text) returns text
language sql immutable
return case event_type
    when 'admission' then 'patient_admission'
    when 'discharge' then 'patient_discharge'
    when 'treatment_initiated' then 'treatment_initiated'
    when 'admission_cancelled' then 'admission_cancelled'
    when 'discharge_cancelled' then 'discharge_cancelled'
end;
grant execute on function app.event_job_type to claims_trigger_definer, claims_system;

-- Applies an event by the type of its job. A type without a branch raises case_not_found.
create or replace function app.apply_event(e app.patient_status_events) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    case event_job_type(e.event_type)
    when 'patient_admission', 'treatment_initiated' then return process_admission(e);
    when 'patient_discharge' then return process_discharge(e);
    when 'admission_cancelled' then return revert_event(e, 'admission', 'under_review', 'submitted');
    when 'discharge_cancelled' then return revert_event(e, 'discharge', 'approved', 'under_review');
    end case;
end
$$;

-- Admission, or treatment initiated: sets the patient's submitted claims to under_review. For a treatment, only those of the event's
-- provider, if it has one.
create or replace function app.process_admission(e app.patient_status_events) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    claim_ids uuid[] := array(
        select c.claim_id from claims c
        where c.patient_id = e.patient_id and c.status = 'submitted'
          and (e.event_type = 'admission' or c.provider_id = coalesce(e.provider_id, c.provider_id))
        order by c.claim_id
        for update);
begin
    if e.event_type = 'admission' and is_cancelled(e, 'admission_cancelled') then
        return skipped_claims(claim_ids, 'the admission was cancelled');
    end if;
    return move_claims_for_event(claim_ids, 'under_review', e.event_id);
end
$$;

-- Discharge: processes the open claims of the visit. A claim that a user works on is skipped, one up to the automatic approval limit is
-- approved, any other submitted one is set to under_review.
create or replace function app.process_discharge(e app.patient_status_events) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    approve_up_to bigint := (select o.auto_approve_limit_cents from organizations o where o.organization_id = organization_id());
    first_day date;
    last_day date;
    small uuid[];
    large uuid[];
    alone jsonb;
    approved jsonb;
    reviewed jsonb;
begin
    select d.* into first_day, last_day from visit_days(e) d;
    with open as (
        select c.claim_id, c.status, c.amount_cents <= approve_up_to as is_small,
               c.assigned_to is not null and c.status_by is not null as in_hand, job_may_decide(c) as may_decide
        from claims c
        where c.patient_id = e.patient_id and c.status in ('submitted', 'under_review')
          and c.service_date between first_day and last_day
        order by c.claim_id
        for update
    )
    select array_agg(claim_id) filter (where is_small and not in_hand and may_decide),
           array_agg(claim_id) filter (where not is_small and not in_hand and status = 'submitted'),
           jsonb_agg(jsonb_build_object('id', claim_id, 'reason', case
               when in_hand then 'a person is working on it'
               when is_small and not may_decide then 'a person must decide it' else 'under review already' end))
               filter (where in_hand or (is_small and not may_decide) or (not is_small and status = 'under_review'))
    into small, large, alone from open;
    if is_cancelled(e, 'discharge_cancelled') then
        return skipped_claims(small || large, 'the discharge was cancelled');
    end if;
    approved := move_claims_for_event(coalesce(small, '{}'), 'approved', e.event_id);
    reviewed := move_claims_for_event(coalesce(large, '{}'), 'under_review', e.event_id);
    return jsonb_build_object(
        'updated', approved -> 'updated' || (reviewed -> 'updated'),
        'skipped', coalesce(alone, '[]'),
        'failed', approved -> 'failed' || (reviewed -> 'failed'));
end
$$;

-- The first and last day of the visit that a discharge ends, both included, in the organization's time zone. The visit begins with the
-- first of these that exists:
-- 1. the admission with the same visit number or, if the discharge has none, the last admission without a discharge; cancelled
--    admissions and discharges are ignored;
-- 2. the first event with the same visit number;
-- 3. 30 days before the discharge.
create or replace function app.visit_days(discharge app.patient_status_events, out first_day date, out last_day date)
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    with zone as (select timezone from organizations where organization_id = organization_id()),
    start as (
        select coalesce(
            (select max(occurred_at) from patient_status_events a
             where a.patient_id = discharge.patient_id and a.event_type = 'admission'
               and a.occurred_at <= discharge.occurred_at and a.visit_number = discharge.visit_number
               and not is_cancelled(a, 'admission_cancelled')),
            (select max(occurred_at) from patient_status_events a
             where a.patient_id = discharge.patient_id and a.event_type = 'admission'
               and a.occurred_at <= discharge.occurred_at and discharge.visit_number is null
               and not is_cancelled(a, 'admission_cancelled')
               and not exists (
                   select from patient_status_events d
                   where d.patient_id = a.patient_id and d.event_type = 'discharge' and d.event_id <> discharge.event_id
                     and d.occurred_at between a.occurred_at and discharge.occurred_at
                     and not is_cancelled(d, 'discharge_cancelled'))),
            (select min(occurred_at) from patient_status_events e
             where e.patient_id = discharge.patient_id and e.visit_number = discharge.visit_number
               and e.occurred_at < discharge.occurred_at),
            discharge.occurred_at - interval '30 days') as at)
    select (start.at at time zone timezone)::date, (discharge.occurred_at at time zone timezone)::date from start, zone
$$;

-- Reverts the effects of the last admission or discharge before the cancellation. A claim whose status was changed since is skipped.
create or replace function app.revert_event(e app.patient_status_events, undone text, moved_to text, back_to text) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    last_one uuid := (
        select u.event_id from patient_status_events u
        where u.patient_id = e.patient_id and u.event_type = undone and u.occurred_at <= e.occurred_at
          and (e.visit_number is null or u.visit_number = e.visit_number)
        order by u.occurred_at desc limit 1);
    touched uuid[] := array(
        select c.claim_id from claims c
        where c.patient_id = e.patient_id and c.status_event_id is distinct from last_one
          and exists (select from claim_status_history h
                      where h.claim_id = c.claim_id and h.event_id = last_one and h.to_status = moved_to)
        order by c.claim_id);
begin
    return skipped_claims(touched, 'it was moved since') || move_claims_for_event(array(
        select c.claim_id from claims c
        where c.patient_id = e.patient_id and c.status = moved_to and c.status_event_id = last_one
        order by c.claim_id
        for update), back_to, e.event_id, format('the %s was cancelled', undone)) - 'skipped';
end
$$;

-- True if an event of type `undoing` cancels this one: it occurred later, belongs to the same visit, and no other event of this one's type
-- occurred in between. It may have arrived earlier.
create or replace function app.is_cancelled(e app.patient_status_events, undoing text) returns boolean
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
begin
    return exists (
        select from patient_status_events u
        where u.patient_id = e.patient_id and u.event_type = undoing and u.occurred_at >= e.occurred_at
          and (u.visit_number is null or u.visit_number = e.visit_number)
          and not exists (
            select from patient_status_events b
            where b.patient_id = e.patient_id and b.event_type = e.event_type and b.event_id <> e.event_id
              and b.occurred_at between e.occurred_at and u.occurred_at
              and (u.visit_number is null or b.visit_number = u.visit_number)));
end
$$;

-- The result of an event that skips all these claims for the same reason.
create or replace function app.skipped_claims(claim_ids uuid[], why text) returns jsonb
language sql immutable set search_path = app, pg_catalog, pg_temp
return jsonb_build_object('updated', jsonb_build_array(), 'failed', jsonb_build_array(), 'skipped', (
    select coalesce(jsonb_agg(jsonb_build_object('id', id, 'reason', why)), '[]') from unnest(claim_ids) as id));

-- Changes the status of claims with one statement. If that fails, one by one, so that a faulty claim does not affect the others.
-- Returns {"updated": [ids], "skipped": [], "failed": [{"id", "code"}]}.
create or replace function app.move_claims_for_event(claim_ids uuid[], new_status text, p_event_id uuid, why text default null) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    updated jsonb;
    failed jsonb := '[]';
    one uuid;
begin
    begin
        with moved as (
            update claims set status = new_status, status_event_id = p_event_id, status_reason = why, approved_cents = null
            where claim_id = any (claim_ids)
            returning claim_id)
        select coalesce(jsonb_agg(claim_id order by claim_id), '[]') into updated from moved;
        return jsonb_build_object('updated', updated, 'skipped', jsonb_build_array(), 'failed', failed);
    exception when data_exception or integrity_constraint_violation or insufficient_privilege or sqlstate 'TRANS'
        or sqlstate 'INVAL' then
        updated := '[]';
    end;
    foreach one in array claim_ids loop
        begin
            update claims set status = new_status, status_event_id = p_event_id, status_reason = why, approved_cents = null
            where claim_id = one;
            updated := updated || to_jsonb(one);
        exception when data_exception or integrity_constraint_violation or insufficient_privilege or sqlstate 'TRANS'
            or sqlstate 'INVAL' then
            failed := failed || jsonb_build_object('id', one, 'code', error_json(sqlstate, '{}') ->> 'code');
        end;
    end loop;
    return jsonb_build_object('updated', updated, 'skipped', jsonb_build_array(), 'failed', failed);
end
$$;

grant execute on function app.move_claims_for_event, app.visit_days, app.is_cancelled, app.skipped_claims, app.process_admission, app.process_discharge,
    app.revert_event, app.apply_event to claims_system;
