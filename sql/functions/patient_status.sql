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
grant execute on function app.defer_job to claims_recorder;

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
