-- Running a job: its effect and its end are one transaction, and the row of job_processing_logs decides, not the queue. The queue
-- delivers at least once: a job may come again after a crash, twice at the same time, or late from a worker that was given up.

-- One event's effect, once. The row is locked first: whoever comes second finds it done. Returns what became of the job.
create or replace function app.process_event_once(p_event_id uuid) returns text
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    job job_processing_logs;
    event patient_status_events;
begin
    select * into job from job_processing_logs j where j.event_id = p_event_id for update;
    if job.status in ('completed', 'failed') then
        return job.status;
    end if;
    select * into event from patient_status_events e where e.event_id = p_event_id;
    update job_processing_logs j
    set status = 'completed', attempts = j.attempts + 1, error = null, result = apply_event(event),
        started_at = now(), finished_at = clock_timestamp()
    where j.event_id = p_event_id;
    return 'completed';
end
$$;

-- The job's event, and up to p_more others of the organization that wait first in line for their patients: a deep queue is worked
-- off in fewer transactions. One that fails is left to its own job, and so is one that would be waited for: the job itself must not
-- suffer from what goes along.
create or replace function app.process_batch(p_event_id uuid, p_more integer, out status text, out along integer)
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    waiting record;
    done bigint[] := '{}';
begin
    status := process_event_once(p_event_id);
    if p_more > 0 then
        set local lock_timeout = '50ms';
        for waiting in select w.* from ready_jobs(p_more) w loop
            exit when clock_timestamp() > now() + interval '1 second';
            begin
                perform context.switch_event(waiting.event_id);
                perform process_event_once(waiting.event_id);
                done := done || waiting.id;
            exception when others or query_canceled then
                null;
            end;
        end loop;
        begin
            perform mark_jobs_succeeded(done);
        exception when others then
            null;  -- an earlier event of one of these patients has come in and begun meanwhile: each own job will find it done
        end;
    end if;
    along := cardinality(done);
end
$$;

-- How an attempt ended that had no effect. Permanent, or the third one: the job is dead until an admin tries again.
create or replace function app.record_job_failure(
    p_event_id uuid, p_error text, p_permanent boolean, out status text, out attempts integer)
returns setof record
language sql set search_path = app, pg_catalog, pg_temp as $$
    update job_processing_logs j
    set status = case when p_permanent or j.attempts + 1 >= 3 then 'failed' else 'pending' end,
        attempts = j.attempts + 1, error = p_error, started_at = now(), finished_at = clock_timestamp()
    where j.event_id = p_event_id and j.status not in ('completed', 'failed')
    returning j.status, j.attempts
$$;

grant execute on function app.process_event_once, app.process_batch, app.record_job_failure to claims_system;

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
        perform raise_conflict('{"status": ["Only failed jobs can be retried"]}');
    end if;
    perform defer_job(job.job_type, job.organization_id, job.event_id, job.patient_id);
    perform write_audit_entry('execute', 'job_processing_logs', p_job_id, job.patient_id, 'retried');
    return query
    update job_processing_logs j set status = 'pending', attempts = 0, error = null, started_at = null, finished_at = null
    where j.job_id = p_job_id
    returning j.*;
end
$$;
alter function app.retry_job owner to claims_trigger_definer;
grant execute on function app.retry_job to claims_admin;
