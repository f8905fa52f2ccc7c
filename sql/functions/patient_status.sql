-- From an event to its job, and from the job to the claims.

-- The event and its job are one statement: whoever inserts an event has enqueued its job, and nobody can enqueue anything else.
-- The arguments are ids only; the lock keeps the jobs of one patient in order.
create or replace function app.enqueue_event() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    type_of_job text := case new.event_type
        when 'admission' then 'patient_admission' when 'discharge' then 'patient_discharge' else new.event_type end;
begin
    insert into job_processing_logs (organization_id, idempotency_key, job_type, event_id, patient_id)
    values (new.organization_id, new.event_id::text, type_of_job, new.event_id, new.patient_id);
    perform defer_job(type_of_job, new.organization_id, new.event_id, new.patient_id);
    return null;
end
$$;

create or replace function app.defer_job(type_of_job text, p_organization_id uuid, p_event_id uuid, p_patient_id uuid) returns void
language sql set search_path = procrastinate, pg_catalog, pg_temp as $$
    select procrastinate_defer_jobs_v1(array[row(
        'patient_status', type_of_job, 0, p_organization_id || ':' || p_patient_id, null,
        jsonb_build_object('organization_id', p_organization_id, 'event_id', p_event_id), null
    )]::procrastinate_job_to_defer_v1[])
$$;
revoke execute on function app.defer_job from public;
grant execute on function app.defer_job to claims_recorder;

-- A failed job once more: its log row is pending again and the job stands in the queue, in one transaction. Two who ask at once
-- are one who is asked to wait and then finds it pending. No row when the organization has no such job.
create or replace function app.retry_job(p_job_id uuid) returns setof app.job_processing_logs
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    job job_processing_logs;
begin
    select * into job from job_processing_logs j where j.job_id = p_job_id for update;
    if not found then
        return;
    end if;
    if job.status <> 'failed' then
        perform refuse_now('{"status": ["Only a failed job runs again"]}');
    end if;
    perform defer_job(job.job_type, job.organization_id, job.event_id, job.patient_id);
    perform record_act('execute', 'job_processing_logs', p_job_id, job.patient_id, 'retried');
    return query
    update job_processing_logs j set status = 'pending', error = null, started_at = null, finished_at = null
    where j.job_id = p_job_id
    returning j.*;
end
$$;
alter function app.retry_job owner to claims_recorder;
revoke execute on function app.retry_job from public;
grant execute on function app.retry_job to claims_admin;

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
            ('occurredAt', 'Must not lie in the future or before 1900',
                new.occurred_at not between '1900-01-01' and now() + interval '5 minutes')
        ) as checks (field, problem, failed)
        where failed));
    return new;
end
$$;
create or replace trigger patient_status_events_10_check before insert on app.patient_status_events
    for each row execute function app.check_event();

-- Moves claims with one statement; where that fails, one by one, so that a bad claim stops no other.
-- Returns {"updated": [ids], "skipped": [], "failed": [{"id", "code"}]}.
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
            failed := failed || jsonb_build_object('id', one, 'code', refusal(sqlstate, '{}') ->> 'code');
        end;
    end loop;
    return jsonb_build_object('updated', updated, 'skipped', jsonb_build_array(), 'failed', failed);
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

-- For how many seconds the oldest job that could run has been waiting; 0 when none is. For readiness, which may not see the queue.
create or replace function ctx.oldest_job() returns double precision
language sql stable security definer set search_path = procrastinate, pg_catalog, pg_temp as $$
    select coalesce(max(extract(epoch from now() - greatest(e.at, j.scheduled_at))), 0)
    from procrastinate_jobs j join procrastinate_events e on e.job_id = j.id and e.type = 'deferred'
    where j.status = 'todo' and (j.scheduled_at is null or j.scheduled_at <= now())
$$;
alter function ctx.oldest_job owner to claims_recorder;
grant execute on function ctx.oldest_job to claims_api;
