-- From an event to its job, and from the job to the claims.

-- The event and its job are one statement: whoever inserts an event has enqueued its job, and nobody can enqueue anything else.
-- The arguments are ids only; the lock keeps the jobs of one patient in order.
create or replace function app.enqueue_event() returns trigger
language plpgsql security definer set search_path = procrastinate, app, pg_catalog, pg_temp as $$
declare
    type_of_job text := case new.event_type
        when 'admission' then 'patient_admission' when 'discharge' then 'patient_discharge' else new.event_type end;
begin
    insert into job_processing_logs (organization_id, idempotency_key, job_type, event_id, patient_id)
    values (new.organization_id, new.event_id::text, type_of_job, new.event_id, new.patient_id);
    perform procrastinate_defer_jobs_v1(array[row(
        'patient_status', type_of_job, 0, new.organization_id || ':' || new.patient_id, null,
        jsonb_build_object('organization_id', new.organization_id, 'event_id', new.event_id), null
    )]::procrastinate_job_to_defer_v1[]);
    return null;
end
$$;
alter function app.enqueue_event owner to claims_recorder;
create or replace trigger patient_status_events_20_enqueue after insert on app.patient_status_events
    for each row execute function app.enqueue_event();

-- An id in a body that names nothing the caller may see is an answer about that field, the same for another tenant's.
create or replace function app.check_event() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    perform refuse((
        select coalesce(jsonb_object_agg(field, jsonb_build_array(problem)), '{}')
        from (values
            ('patientId', 'Names no patient',
                not exists (select from patients p where p.patient_id = new.patient_id)),
            ('providerId', 'Names no provider', new.provider_id is not null
                and not exists (select from providers p where p.provider_id = new.provider_id)),
            ('occurredAt', 'Must not lie in the future', new.occurred_at > now() + interval '5 minutes')
        ) as checks (field, problem, failed)
        where failed));
    return new;
end
$$;
create or replace trigger patient_status_events_10_check before insert on app.patient_status_events
    for each row execute function app.check_event();

-- Moves claims with one statement; where that fails, one by one, so that a bad claim stops no other.
-- Returns {"updated": [ids], "failed": [{"id", "code"}]}.
create or replace function app.move_claims(claim_ids uuid[], new_status text, p_event_id uuid, why text default null) returns jsonb
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
        return jsonb_build_object('updated', updated, 'failed', failed);
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
            failed := failed || jsonb_build_object('id', one, 'code', sqlstate);
        end;
    end loop;
    return jsonb_build_object('updated', updated, 'failed', failed);
end
$$;

-- The days of the visit that a discharge closes, both included, in the organization's time zone: from the admission with the same
-- visit number, or the last one not yet discharged; without one from the first event of that visit, or else 30 days back.
create or replace function app.visit_days(discharge app.patient_status_events, out first_day date, out last_day date)
language sql stable set search_path = app, pg_catalog, pg_temp as $$
    with zone as (select timezone from organizations where organization_id = organization_id()),
    start as (
        select coalesce(
            (select max(occurred_at) from patient_status_events a
             where a.patient_id = discharge.patient_id and a.event_type = 'admission'
               and a.occurred_at <= discharge.occurred_at and a.visit_number = discharge.visit_number),
            (select max(occurred_at) from patient_status_events a
             where a.patient_id = discharge.patient_id and a.event_type = 'admission'
               and a.occurred_at <= discharge.occurred_at and discharge.visit_number is null
               and not exists (
                   select from patient_status_events d
                   where d.patient_id = a.patient_id and d.event_type = 'discharge' and d.event_id <> discharge.event_id
                     and d.occurred_at between a.occurred_at and discharge.occurred_at)),
            (select min(occurred_at) from patient_status_events e
             where e.patient_id = discharge.patient_id and e.visit_number = discharge.visit_number
               and e.occurred_at < discharge.occurred_at),
            discharge.occurred_at - interval '30 days') as at)
    select (start.at at time zone timezone)::date, (discharge.occurred_at at time zone timezone)::date from start, zone
$$;
grant execute on function app.move_claims, app.visit_days to claims_system;
