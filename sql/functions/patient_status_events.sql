-- Effects of a patient status event on the patient's claims. The order of events is that of occurred_at, not of their arrival.
-- Every effect returns {"updated": [ids], "skipped": [{"id", "reason"}], "failed": [{"id", "code"}]}.

-- Trigger: rejects an event whose patient or provider the caller can't see, or whose time is out of range. An id of another organization
-- gives the same error as an unknown one. Sets the sender, whose idempotency keys are its own.
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
    new.sender_provider_id := context.verified_id(current_user, 'provider_id');
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

-- Visit numbers are compared without outer blanks and case, because two systems of a hospital may spell one differently.
create or replace function app.visit_key(visit_number text) returns text
language sql immutable
return lower(btrim(visit_number));

-- Whether two events are copies: reports of the same occurrence with different idempotency keys. A treatment also has the same provider,
-- because its effect is on that provider's claims.
create or replace function app.is_same_event(one app.patient_status_events, other app.patient_status_events) returns boolean
language sql immutable
return one.patient_id = other.patient_id and one.event_type = other.event_type and one.occurred_at = other.occurred_at
    and visit_key(one.visit_number) is not distinct from visit_key(other.visit_number)
    and (one.event_type <> 'treatment_initiated' or one.provider_id is not distinct from other.provider_id);

-- Whether one event is after another one of its type. Of two at the same time, the one with the greater visit number is the later.
create or replace function app.is_after(one app.patient_status_events, other app.patient_status_events) returns boolean
language sql immutable
return one.occurred_at > other.occurred_at
    or one.occurred_at = other.occurred_at and coalesce(visit_key(one.visit_number), '') > coalesce(visit_key(other.visit_number), '');

-- The ids of an event and of its copies. A claim's status_event_id names the copy that was applied.
create or replace function app.copies(e app.patient_status_events) returns uuid[]
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select array_agg(c.event_id) from patient_status_events c
    where c.patient_id = e.patient_id and c.event_type = e.event_type and c.occurred_at = e.occurred_at and is_same_event(c, e)
$$;

-- Whether a copy of the event was applied before.
create or replace function app.was_applied(e app.patient_status_events) returns boolean
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select exists (
        select from patient_status_events c join job_processing_logs j on j.event_id = c.event_id and j.status = 'completed'
        where c.patient_id = e.patient_id and c.event_type = e.event_type and c.occurred_at = e.occurred_at
          and c.event_id <> e.event_id and is_same_event(c, e))
$$;

-- How many claims one transaction changes. Changing one takes up to a millisecond, and a statement of the worker three seconds at most.
create or replace function app.claims_of_a_part() returns integer
language sql immutable
return 500;

-- Applies the next part of an event, by the type of its job: to at most claims_of_a_part() claims of the patient, in the order of their
-- creation, after the last claim of the part before. last_id is null after the last part. A type without a branch raises case_not_found.
create or replace function app.apply_event(
    e app.patient_status_events, after_at timestamptz, after_id uuid, out effect jsonb, out last_at timestamptz, out last_id uuid)
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    job_type text := event_job_type(e.event_type);
    first_day date;
    last_day date;
    begins_visits boolean;
    reverted uuid[];  -- of a cancellation
    claim_ids uuid[];
begin
    case job_type
    when 'patient_admission', 'treatment_initiated' then
        begins_visits := exists (select from discharges_of_visit(e));
    when 'patient_discharge' then
        select v.first_day, v.last_day into first_day, last_day from visit_of(e) v;
    when 'admission_cancelled' then
        reverted := cancelled_events(e, 'admission');
    when 'discharge_cancelled' then
        reverted := cancelled_events(e, 'discharge');
    end case;
    with part as (
        select c.claim_id, c.created_at from claims c
        where c.patient_id = e.patient_id and (after_id is null or (c.created_at, c.claim_id) > (after_at, after_id))
          and case
              when reverted is not null then
                  exists (select from claim_status_history h where h.claim_id = c.claim_id and h.event_id = any (reverted))
              when job_type = 'patient_discharge' then
                  c.status in ('submitted', 'under_review') and c.service_date between first_day and last_day
              else c.status = 'submitted' or begins_visits and c.status in ('under_review', 'approved') end
        order by c.created_at, c.claim_id
        limit claims_of_a_part())
    select array_agg(p.claim_id order by p.claim_id),
           case when count(*) = claims_of_a_part() then max(p.created_at) end,
           case when count(*) = claims_of_a_part() then (array_agg(p.claim_id order by p.created_at desc, p.claim_id desc))[1] end
    into claim_ids, last_at, last_id from part p;
    claim_ids := coalesce(claim_ids, '{}');
    perform from claims c where c.claim_id = any (claim_ids) order by c.claim_id for update;
    effect := case job_type
        when 'patient_discharge' then process_discharge(e, claim_ids, first_day, last_day)
        when 'admission_cancelled' then revert_event(e, reverted, claim_ids, 'under_review', 'submitted', 'the admission was cancelled')
        when 'discharge_cancelled' then revert_event(e, reverted, claim_ids, 'approved', 'under_review', 'the discharge was cancelled')
        else process_admission(e, claim_ids, begins_visits) end;
end
$$;

-- Admission, or treatment initiated: sets submitted claims to under_review. For a treatment, only those of the event's provider, if it has
-- one. begins_visits: whether discharges were applied before this event that begins their visit. They are applied again, because only now is
-- the visit's first day known.
create or replace function app.process_admission(e app.patient_status_events, claim_ids uuid[], begins_visits boolean) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    submitted uuid[] := array(
        select c.claim_id from claims c
        where c.claim_id = any (claim_ids) and c.status = 'submitted'
          and (e.event_type = 'admission' or c.provider_id = coalesce(e.provider_id, c.provider_id))
        order by c.claim_id);
    effect jsonb;
    discharge record;
begin
    if e.event_type = 'admission' and is_cancelled(e, 'admission_cancelled') then
        return skipped_claims(submitted, 'the admission was cancelled');
    end if;
    effect := move_claims_for_event(submitted, 'under_review', e.event_id);
    if not begins_visits then
        return effect;
    end if;
    for discharge in select d.* from discharges_of_visit(e) d loop
        effect := combine_effects(effect, move_claims_for_event(array(
            select c.claim_id from claims c
            where c.claim_id = any (claim_ids) and c.status = 'approved' and c.status_event_id = any (discharge.event_ids)
              and c.service_date not between discharge.first_day and discharge.last_day
            order by c.claim_id), 'under_review', e.event_id, 'the service date is outside the visit'));
        effect := combine_effects(effect, process_discharge(
            discharge.event, claim_ids, discharge.first_day, discharge.last_day) - 'skipped');
    end loop;
    return effect;
end
$$;

-- Discharge: processes the open claims of the visit. A claim that a user works on is skipped, one up to the automatic approval limit is
-- approved, any other submitted one is set to under_review.
create or replace function app.process_discharge(e app.patient_status_events, claim_ids uuid[], first_day date, last_day date)
returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    approve_up_to bigint := (select o.auto_approve_limit_cents from organizations o where o.organization_id = organization_id());
    small uuid[];
    large uuid[];
    alone jsonb;
begin
    with open as (
        select c.claim_id, c.status, c.amount_cents <= approve_up_to as is_small,
               c.assigned_to is not null and c.status_by is not null as in_hand, job_may_decide(c) as may_decide
        from claims c
        where c.claim_id = any (claim_ids) and c.status in ('submitted', 'under_review')
          and c.service_date between first_day and last_day
        order by c.claim_id
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
    return combine_effects(
        combine_effects(move_claims_for_event(coalesce(small, '{}'), 'approved', e.event_id),
                        move_claims_for_event(coalesce(large, '{}'), 'under_review', e.event_id)),
        jsonb_build_object('skipped', coalesce(alone, '[]')));
end
$$;

-- The event that begins the visit of a discharge; null if none does. Cancelled admissions are ignored. With a visit number:
-- 1. the last admission with the same number before the discharge, or else the first one within a day after it, because two systems may
--    have different clocks;
-- 2. the first treatment with the same number.
-- If that finds none, or without a number: the last admission before the discharge that no earlier discharge has ended. Numbers that
-- differ are those of different visits. Any discharge ends the admissions without a number, and one without a number ends all.
create or replace function app.visit_start(discharge app.patient_status_events, out event_id uuid, out occurred_at timestamptz)
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    last_end timestamptz;
    last_unnumbered_end timestamptz;
    undone boolean;
begin
    if discharge.visit_number is not null then
        select a.event_id, a.occurred_at into event_id, occurred_at from patient_status_events a
        where a.patient_id = discharge.patient_id and a.event_type = 'admission'
          and a.occurred_at <= discharge.occurred_at + interval '1 day'
          and visit_key(a.visit_number) = visit_key(discharge.visit_number) and not is_cancelled(a, 'admission_cancelled')
        order by a.occurred_at > discharge.occurred_at, abs(extract(epoch from a.occurred_at - discharge.occurred_at))
        limit 1;
        if not found then
            select t.event_id, t.occurred_at into event_id, occurred_at from patient_status_events t
            where t.patient_id = discharge.patient_id and t.event_type = 'treatment_initiated'
              and t.occurred_at <= discharge.occurred_at + interval '1 day'
              and visit_key(t.visit_number) = visit_key(discharge.visit_number)
            order by t.occurred_at
            limit 1;
        end if;
    end if;
    if event_id is null then
        undone := exists (
            select from patient_status_events u
            where u.patient_id = discharge.patient_id and u.event_type in ('admission_cancelled', 'discharge_cancelled'));
        last_end := (
            select d.occurred_at from patient_status_events d
            where d.patient_id = discharge.patient_id and d.event_type = 'discharge' and d.occurred_at < discharge.occurred_at
              and (not undone or not is_cancelled(d, 'discharge_cancelled'))
            order by d.occurred_at desc limit 1);
        last_unnumbered_end := case when discharge.visit_number is null then (
            select d.occurred_at from patient_status_events d
            where d.patient_id = discharge.patient_id and d.event_type = 'discharge' and d.occurred_at < discharge.occurred_at
              and d.visit_number is null and (not undone or not is_cancelled(d, 'discharge_cancelled'))
            order by d.occurred_at desc limit 1) end;
        select a.event_id, a.occurred_at into event_id, occurred_at from patient_status_events a
        where a.patient_id = discharge.patient_id and a.event_type = 'admission' and a.occurred_at <= discharge.occurred_at
          and case when a.visit_number is null then a.occurred_at > coalesce(last_end, '-infinity')
              else discharge.visit_number is null and a.occurred_at > coalesce(last_unnumbered_end, '-infinity') and not exists (
                select from patient_status_events d
                where d.patient_id = a.patient_id and d.event_type = 'discharge'
                  and d.occurred_at >= a.occurred_at and d.occurred_at < discharge.occurred_at
                  and visit_key(d.visit_number) = visit_key(a.visit_number)
                  and (not undone or not is_cancelled(d, 'discharge_cancelled')) offset 0) end
          and (not undone or not is_cancelled(a, 'admission_cancelled'))
        order by a.occurred_at desc limit 1;
    end if;
end
$$;

-- The visit that a discharge ends: the event that begins it, and its first and last day, both included, in the organization's time zone. If
-- no event begins it, it begins 30 days before the discharge and start_id is null.
create or replace function app.visit_of(discharge app.patient_status_events, out start_id uuid, out first_day date, out last_day date)
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select s.event_id, case when s.event_id is null then d.last_day - 30 else least(d.first_day, d.last_day) end,
           greatest(d.first_day, d.last_day)  -- least and greatest ignore nulls
    from organizations o
    cross join lateral visit_start(discharge) s
    cross join lateral (
        select local_day(o.timezone, s.occurred_at) as first_day, local_day(o.timezone, discharge.occurred_at) as last_day) d
    where o.organization_id = organization_id()
$$;

-- Discharges that were applied before their visit began by this event, at least in part: with the ids of their copies, and the days of the
-- visit. Unless the numbers are the same, these are only the ones up to the first discharge that ends the admission.
create or replace function app.discharges_of_visit(e app.patient_status_events)
returns table (event app.patient_status_events, event_ids uuid[], first_day date, last_day date)
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    ended_at timestamptz := (
        select one.occurred_at
        from (
            select distinct on (d.occurred_at, visit_key(d.visit_number)) d as event, d.occurred_at, visit_key(d.visit_number) as number
            from patient_status_events d
            where d.patient_id = e.patient_id and d.event_type = 'discharge' and d.occurred_at >= e.occurred_at
              and (d.visit_number is null or e.visit_number is null or visit_key(d.visit_number) = visit_key(e.visit_number))
            order by d.occurred_at, visit_key(d.visit_number)) one
        where not is_cancelled(one.event, 'discharge_cancelled')
        order by one.occurred_at, one.number limit 1);
begin
    -- Materialized, because the planner would evaluate the functions below for each discharge of the patient.
    return query
    with candidates as materialized (
        select d as event from patient_status_events d
        where d.patient_id = e.patient_id and d.event_type = 'discharge' and d.occurred_at >= e.occurred_at - interval '1 day'
          and (visit_key(d.visit_number) = visit_key(e.visit_number)
               or e.event_type = 'admission' and (d.visit_number is null or e.visit_number is null)
                  and d.occurred_at between e.occurred_at and ended_at)),
    applied as materialized (
        select distinct on ((c.event).occurred_at, visit_key((c.event).visit_number)) c.event
        from candidates c
        cross join lateral (
            select j.finished_at from job_processing_logs j
            where j.event_id = (c.event).event_id and (j.status = 'completed' or j.last_claim_id is not null) offset 0) j
        order by (c.event).occurred_at, visit_key((c.event).visit_number), j.finished_at)
    select a.event, copies(a.event), v.first_day, v.last_day
    from applied a cross join lateral visit_of(a.event) v
    where v.start_id = any (copies(e)) and not is_cancelled(a.event, 'discharge_cancelled');
end
$$;

-- The last event of type `undone` before the cancellation, of the same visit if that is given, with its copies.
create or replace function app.cancelled_events(e app.patient_status_events, undone text) returns uuid[]
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    select coalesce((
        select copies(u) from patient_status_events u
        where u.patient_id = e.patient_id and u.event_type = undone and u.occurred_at <= e.occurred_at
          and (e.visit_number is null or visit_key(u.visit_number) = visit_key(e.visit_number))
        order by u.occurred_at desc, coalesce(visit_key(u.visit_number), '') desc limit 1), '{}')
$$;

-- Cancellation: moves the claims that the cancelled event moved back. A claim whose status was changed since is skipped.
create or replace function app.revert_event(
    e app.patient_status_events, reverted uuid[], claim_ids uuid[], moved_to text, back_to text, why text) returns jsonb
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    touched uuid[] := array(
        select c.claim_id from claims c
        where c.claim_id = any (claim_ids) and (c.status_event_id = any (reverted)) is not true
          and exists (select from claim_status_history h
                      where h.claim_id = c.claim_id and h.event_id = any (reverted) and h.to_status = moved_to)
        order by c.claim_id);
begin
    return combine_effects(skipped_claims(touched, 'it was moved since'), move_claims_for_event(array(
        select c.claim_id from claims c
        where c.claim_id = any (claim_ids) and c.status = moved_to and c.status_event_id = any (reverted)
        order by c.claim_id), back_to, e.event_id, why));
end
$$;

-- True if an event of type `undoing` cancels this one: it occurred later, belongs to the same visit, and no other event of this one's type
-- occurred in between. It may have arrived earlier. A copy is no other event.
create or replace function app.is_cancelled(e app.patient_status_events, undoing text) returns boolean
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    next_at timestamptz;
    next_of_visit_at timestamptz;
begin
    if not exists (select from patient_status_events u
                   where u.patient_id = e.patient_id and u.event_type = undoing and u.occurred_at >= e.occurred_at) then
        return false;
    end if;
    next_at := (
        select n.occurred_at from patient_status_events n
        where n.patient_id = e.patient_id and n.event_type = e.event_type and n.occurred_at >= e.occurred_at
          and is_after(n, e)
        order by n.occurred_at limit 1);
    next_of_visit_at := (
        select n.occurred_at from patient_status_events n
        where n.patient_id = e.patient_id and n.event_type = e.event_type and n.occurred_at > e.occurred_at
          and visit_key(n.visit_number) = visit_key(e.visit_number)
        order by n.occurred_at limit 1);
    return exists (
        select from patient_status_events u
        where u.patient_id = e.patient_id and u.event_type = undoing and u.occurred_at >= e.occurred_at
          and (u.visit_number is null and u.occurred_at < coalesce(next_at, 'infinity')
               or visit_key(u.visit_number) = visit_key(e.visit_number) and u.occurred_at < coalesce(next_of_visit_at, 'infinity')));
end
$$;

-- The effects of two steps on the same claims as one: {"updated": [ids], "skipped": [...], "failed": [...]}, each entry once.
create or replace function app.combine_effects(one jsonb, other jsonb) returns jsonb
language sql immutable set search_path = app, pg_catalog, pg_temp
return (
    select jsonb_object_agg(kind, coalesce((
        select jsonb_agg(distinct entry) from jsonb_array_elements(coalesce(one -> kind, '[]') || coalesce(other -> kind, '[]')) as entry),
        '[]'))
    from unnest(array['updated', 'skipped', 'failed']) as kind);

-- Adds the effect of a part to the result of a job: of each kind a count, and the first 1,000 entries.
create or replace function app.add_effect(result jsonb, effect jsonb) returns jsonb
language sql immutable set search_path = app, pg_catalog, pg_temp
return (
    select jsonb_object_agg(kind, listed) || jsonb_object_agg(kind || 'Count', counted)
    from unnest(array['updated', 'skipped', 'failed']) as kind
    cross join lateral (select coalesce(result -> kind, '[]') as before, coalesce(effect -> kind, '[]') as added) e
    cross join lateral (select
        case when jsonb_array_length(before) + jsonb_array_length(added) <= 1000 then before || added else (
            select coalesce(jsonb_agg(entry order by place), '[]')
            from jsonb_array_elements(before || added) with ordinality as entries (entry, place) where place <= 1000) end as listed,
        coalesce((result ->> (kind || 'Count'))::integer, jsonb_array_length(before)) + jsonb_array_length(added) as counted) c);

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

grant execute on function app.move_claims_for_event, app.visit_key, app.is_same_event, app.is_after, app.copies, app.was_applied, app.claims_of_a_part,
    app.visit_start, app.visit_of, app.discharges_of_visit, app.cancelled_events, app.is_cancelled, app.skipped_claims,
    app.combine_effects, app.add_effect, app.process_admission, app.process_discharge, app.revert_event, app.apply_event
    to claims_system;
