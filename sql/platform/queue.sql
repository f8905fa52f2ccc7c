-- What jobs, operators and readiness may know and do of the queue. Its rows carry ids of every tenant and stand outside row-level
-- security, so product roles and jobs get to it through these functions alone.

-- Jobs of the context's organization that could run now, locked until the end of the transaction: those whose patient has nothing
-- before them. One that failed before runs by itself. Said so that claims_jobs_organization (sql/deploy/queue.sql), which gives the oldest
-- first, is the only way to them: a plan made while nothing waits would read the whole queue for each of them.
create or replace function app.ready_jobs(p_at_most integer) returns table (id bigint, event_id uuid)
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off as $$
begin
    perform context.required_id(current_user);  -- no tenant table is asked here
    return query
    select j.id, (j.args ->> 'event_id')::uuid
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

-- They are done. Two steps, as a worker would: the queue's own trigger writes each down.
create or replace function app.mark_jobs_succeeded(p_ids bigint[]) returns void
language plpgsql security definer set search_path = procrastinate, pg_catalog, pg_temp as $$
begin
    perform context.required_id(current_user);
    update procrastinate_jobs j set status = 'doing'
    where j.id = any (p_ids) and j.args ->> 'organization_id' = current_setting('app.organization_id');
    update procrastinate_jobs j set status = 'succeeded', attempts = j.attempts + 1
    where j.id = any (p_ids) and j.args ->> 'organization_id' = current_setting('app.organization_id');
end
$$;

-- Jobs that nobody works on any more stand in the queue again: of workers whose last heartbeat is p_stalled_after old, and those that
-- began p_overdue_after ago, longer than any job may take (maintenance: eleven minutes, since sealing may take ten): their worker lives, but
-- could not say how they ended. Where the next of its kind stands in the queue already (queueing_lock), the lost one has failed.
-- Never by reading what is kept, whatever was there when it was planned: it is asked every second.
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

-- Up to p_at_most jobs that ended so many hours ago go from the queue; how many went. Found by when they were enqueued, which is before
-- they ended (claims_events_deferred): what must be kept anyway is not read.
create or replace function app.delete_old_jobs(p_completed_hours integer, p_failed_hours integer, p_at_most integer) returns integer
language plpgsql set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
    forgotten integer;
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
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;

-- For how many seconds the oldest job that could run has been waiting, 0 when none is; and how many workers live. For readiness, which
-- may not see the queue.
create or replace function app.queue_state(out oldest double precision, out workers bigint)
language sql stable security definer set search_path = procrastinate, pg_catalog, pg_temp as $$
    select (select coalesce(max(extract(epoch from now() - greatest(e.at, j.scheduled_at))), 0)
            from procrastinate_jobs j join procrastinate_events e on e.job_id = j.id and e.type = 'deferred'
            where j.status = 'todo' and (j.scheduled_at is null or j.scheduled_at <= now())),
           (select count(*) from procrastinate_workers w where w.last_heartbeat > now() - interval '30 seconds')
$$;

alter function app.ready_jobs owner to claims_trigger_definer;
alter function app.mark_jobs_succeeded owner to claims_trigger_definer;
alter function app.queue_state owner to claims_trigger_definer;
grant execute on function app.ready_jobs, app.mark_jobs_succeeded to claims_system;
grant execute on function app.rescue_jobs, app.delete_old_jobs to claims_worker;
grant execute on function app.queue_state to claims_api;
