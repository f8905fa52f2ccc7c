-- Execution of jobs. The queue delivers a job at least once: again after a crash, twice at the same time, or late from a worker that was
-- considered dead. The row of job_processing_logs ensures that it has one effect: effect and final status are one transaction.

-- Applies an event, or its next part, unless its job has ended. The job's row is locked first, so a concurrent call waits and then finds
-- it completed. Returns the job's status: processing if another part follows. A copy of an event that was applied has no effect.
create or replace function app.process_event_once(p_event_id uuid) returns text
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    job job_processing_logs;
    event patient_status_events;
    part record;
begin
    select * into job from job_processing_logs j where j.event_id = p_event_id for update;
    if job.status in ('completed', 'failed') then
        return job.status;
    end if;
    select * into event from patient_status_events e where e.event_id = p_event_id;
    if was_applied(event) then
        select skipped_claims('{}', '') as effect, null::timestamptz as last_at, null::uuid as last_id into part;
    else
        select * into part from apply_event(event, job.last_claim_created_at, job.last_claim_id);
    end if;
    update job_processing_logs j
    set status = case when part.last_id is null then 'completed' else 'processing' end,
        -- Each part has its three attempts, because failures that pass are likely in a job of many parts.
        attempts = case when part.last_id is null then j.attempts + 1 else 0 end, error = null, result = add_effect(j.result::jsonb, part.effect),
        last_claim_created_at = coalesce(part.last_at, j.last_claim_created_at), last_claim_id = coalesce(part.last_id, j.last_claim_id),
        started_at = case j.status when 'processing' then j.started_at else now() end,
        finished_at = case when part.last_id is null then clock_timestamp() end
    where j.event_id = p_event_id
    returning j.status into job.status;
    return job.status;
end
$$;

-- Processes the job's event, and up to p_more other jobs of the organization: those that follow in the patient's own order, and as many
-- that are the next ones of their patients, so that a long queue needs fewer transactions. If another job fails, would wait for a lock or
-- needs several parts, it is left to its own delivery: it must not delay or fail this one. While the status is processing, the caller
-- calls again. is_followed: the patient has another job, which can run as soon as this one has ended.
create or replace function app.process_batch(
    p_event_id uuid, p_more integer, out status text, out along integer, out is_followed boolean)
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    p_patient_id uuid := (select e.patient_id from patient_status_events e where e.event_id = p_event_id);
    waiting record;
    done bigint[] := '{}';
    is_line_stopped boolean := false;
begin
    status := process_event_once(p_event_id);
    if status = 'processing' then
        perform renew_job_start(p_patient_id);
    elsif p_more > 0 then
        set local lock_timeout = '50ms';
        for waiting in select w.* from ready_jobs(p_patient_id, p_more) w loop
            exit when clock_timestamp() > now() + interval '1 second';
            continue when waiting.is_successor and is_line_stopped;
            begin
                perform context.switch_event(waiting.event_id);
                if process_event_once(waiting.event_id) = 'processing' then
                    raise exception using errcode = 'PARTS';
                end if;
                done := done || waiting.id;
            exception when others or query_canceled then
                is_line_stopped := is_line_stopped or waiting.is_successor;
            end;
        end loop;
        begin
            perform mark_jobs_succeeded(p_patient_id, done);
        exception when others then
            null;  -- an earlier job of one of these patients has started since: each job's own delivery will find it completed
        end;
    end if;
    along := cardinality(done);
    is_followed := status <> 'processing' and release_successor(p_patient_id);
end
$$;

-- Records a failed attempt. After a permanent error, or the third attempt, the job is failed until an admin retries it.
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

-- Retries a failed job: sets its row to pending and enqueues it again, in one transaction. A concurrent retry waits for the row's lock
-- and is then rejected, because the job is pending. No row if the organization has no such job.
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
