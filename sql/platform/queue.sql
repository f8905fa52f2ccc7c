-- Access to the job queue (schema procrastinate) for jobs, workers, operators and the readiness check. The queue has no row-level security
-- and its rows hold ids of all organizations, so product roles and jobs use it through these functions only.

-- Returns jobs of the context's organization that can run in the transaction of a running job, and locks them until its end:
-- * up to p_at_most successors: the next jobs of the same patient, in order. They need the running job's lock, so another worker can't
--   start one of them. The first that failed before or is scheduled later ends the list;
-- * up to p_at_most others: each without an earlier job of its patient that is waiting or running. Jobs that failed before are left out and
--   run alone. The planner settings and the spelling of the conditions force the index claims_jobs_organization (sql/deploy/queue.sql),
--   which returns the oldest first. A plan cached while the queue was empty would read the whole queue for each job.
create or replace function app.ready_jobs(p_patient_id uuid, p_at_most integer)
returns table (id bigint, event_id uuid, is_successor boolean)
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    patient_lock text := context.required_id(current_user) || ':' || p_patient_id;  -- verifies the context
    next_job record;
begin
    if exists (select from procrastinate_jobs r where r.lock = patient_lock and r.status = 'doing') then
        for next_job in
            select j.id, (j.args ->> 'event_id')::uuid as event_id, j.attempts = 0 and (j.scheduled_at <= now()) is not false as can_run
            from procrastinate_jobs j where j.lock = patient_lock and j.status = 'todo'
            order by j.lock, j.id limit p_at_most
        loop
            exit when not next_job.can_run;
            perform from procrastinate_jobs j where j.id = next_job.id and j.status = 'todo' for update skip locked;
            exit when not found;
            return query select next_job.id, next_job.event_id, true;
        end loop;
    end if;
    return query
    select j.id, (j.args ->> 'event_id')::uuid, false
    from procrastinate_jobs j
    where j.args ->> 'organization_id' = current_setting('app.organization_id') and j.status <= 'todo'
      and j.attempts = 0 and (j.scheduled_at is null or j.scheduled_at <= now())
      and not exists (select from procrastinate_jobs o where o.lock = j.lock and o.status = 'doing' offset 0)
      and not exists (
        select from procrastinate_jobs o
        where o.lock = j.lock and o.status in ('todo', 'doing') and (o.priority > j.priority or o.priority = j.priority and o.id < j.id)
        offset 0)
    limit p_at_most
    for update skip locked;
end
$$;

-- Marks jobs of the context's organization as succeeded. In two steps, like a worker, because the queue's trigger records each change of
-- status as an event. A successor of the running job has no lock meanwhile: only one job with a lock can be `doing`.
create or replace function app.mark_jobs_succeeded(p_patient_id uuid, p_ids bigint[]) returns void
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp as $$
declare
    patient_lock text := context.required_id(current_user) || ':' || p_patient_id;
    successors bigint[] := array(select j.id from procrastinate_jobs j where j.id = any (p_ids) and j.lock = patient_lock);
begin
    update procrastinate_jobs j set status = 'doing', lock = nullif(j.lock, patient_lock)
    where j.id = any (p_ids) and j.args ->> 'organization_id' = current_setting('app.organization_id');
    update procrastinate_jobs j
    set status = 'succeeded', attempts = j.attempts + 1, lock = case when j.id = any (successors) then patient_lock else j.lock end
    where j.id = any (p_ids) and j.args ->> 'organization_id' = current_setting('app.organization_id');
end
$$;

-- Records that the running job of the patient began a part: rescue_jobs counts its time from here. The job keeps its lock meanwhile. The
-- planner settings force the index claims_jobs_lock, here and below.
create or replace function app.renew_job_start(p_patient_id uuid) returns void
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    patient_lock text := context.required_id(current_user) || ':' || p_patient_id;
begin
    insert into procrastinate_events (job_id, type)
    select j.id, 'started' from procrastinate_jobs j where j.lock = patient_lock and j.status = 'doing';
end
$$;

-- Whether another job of the patient waits for the running one. It can run once this one has ended. If it has waited for long, its waiting
-- time begins anew, so that queue_state does not report a stuck queue.
create or replace function app.release_successor(p_patient_id uuid) returns boolean
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    patient_lock text := context.required_id(current_user) || ':' || p_patient_id;
    successor bigint := (
        select j.id from procrastinate_jobs j where j.lock = patient_lock and j.status = 'todo' order by j.lock, j.id limit 1);
begin
    if successor is not null then
        update procrastinate_jobs j set scheduled_at = now()
        where j.id = successor and (j.scheduled_at is null or j.scheduled_at < now())
          and exists (select from procrastinate_events e
                      where e.job_id = j.id and e.type = 'deferred' and e.at < now() - interval '10 seconds');
    end if;
    return successor is not null;
end
$$;

-- Requeues abandoned jobs and returns how many. A job is abandoned if
-- 1. its worker has sent no heartbeat for p_stalled_after, or
-- 2. it started more than p_overdue_after ago, longer than any job may run. Its worker lives, but could not report the result. The limit of
--    maintenance jobs is eleven minutes, because sealing may take ten.
-- If a job with the same queueing_lock is already waiting, the abandoned one is marked failed instead.
-- Sequential scans are off, because this runs every second and must not read the finished jobs, whatever the queue held at planning.
create or replace function app.rescue_jobs(p_stalled_after interval, p_overdue_after interval) returns integer
language plpgsql set search_path = procrastinate, pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    rescued integer;
begin
    delete from procrastinate_workers w where w.last_heartbeat < now() - p_stalled_after;
    update procrastinate_jobs j
    set status = case when exists (
                select from procrastinate_jobs other where other.status = 'todo' and other.queueing_lock = j.queueing_lock)
            then 'failed' else 'todo' end::procrastinate_job_status,
        attempts = j.attempts + 1, scheduled_at = null, worker_id = null, abort_requested = false
    where j.id = any (array(
        select d.id from procrastinate_jobs d
        where d.status = 'doing'
          and (d.worker_id is null
               or (select max(e.at) from procrastinate_events e where e.job_id = d.id and e.type = 'started')
                  < now() - case d.queue_name when 'maintenance' then interval '11 minutes' else p_overdue_after end)
        for update skip locked));
    get diagnostics rescued = row_count;
    return rescued;
end
$$;

-- Deletes up to p_at_most jobs from the queue that ended that many hours ago; returns how many. It finds them by the time they were
-- enqueued, which is before they ended. So the index claims_events_deferred excludes younger jobs, and they are not read.
create or replace function app.delete_old_jobs(p_completed_hours integer, p_failed_hours integer, p_at_most integer) returns integer
language plpgsql set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
    deleted integer;
begin
    delete from procrastinate_jobs where id = any (array(
        select ended.id
        from procrastinate_events e
        cross join lateral (
            select j.id from procrastinate_jobs j
            where j.id = e.job_id and j.status not in ('todo', 'doing')
              and (select max(last.at) from procrastinate_events last where last.job_id = j.id)
                  < now() - make_interval(hours => case when j.status = 'succeeded' then p_completed_hours else p_failed_hours end)
            for update skip locked) ended
        where e.type = 'deferred' and e.at < now() - make_interval(hours => least(p_completed_hours, p_failed_hours))
        order by e.at limit p_at_most));
    get diagnostics deleted = row_count;
    return deleted;
end
$$;

-- The waiting time of the oldest job that could run, in seconds (0 if there is none), and the number of live workers. For the readiness
-- check, which may not read the queue. A job that waits for an earlier one of its patient could not run.
create or replace function app.queue_state(out oldest double precision, out workers bigint)
language sql stable security definer set search_path = procrastinate, pg_catalog, pg_temp as $$
    select (select coalesce(max(extract(epoch from now() - greatest(e.at, j.scheduled_at))), 0)
            from procrastinate_jobs j join procrastinate_events e on e.job_id = j.id and e.type = 'deferred'
            where j.status = 'todo' and (j.scheduled_at is null or j.scheduled_at <= now())
              and not exists (
                select from procrastinate_jobs o where o.lock = j.lock and o.status in ('todo', 'doing') and o.id < j.id offset 0)),
           (select count(*) from procrastinate_workers w where w.last_heartbeat > now() - interval '30 seconds')
$$;

alter function app.ready_jobs owner to claims_trigger_definer;
alter function app.mark_jobs_succeeded owner to claims_trigger_definer;
alter function app.renew_job_start owner to claims_trigger_definer;
alter function app.release_successor owner to claims_trigger_definer;
alter function app.queue_state owner to claims_trigger_definer;
grant execute on function app.ready_jobs, app.mark_jobs_succeeded, app.renew_job_start, app.release_successor to claims_system;
grant execute on function app.rescue_jobs, app.delete_old_jobs to claims_worker;
grant execute on function app.queue_state to claims_api;
