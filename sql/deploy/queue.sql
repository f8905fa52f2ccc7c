-- Rights, indexes and one function of the job queue (schema procrastinate). The worker runs it and the trigger on patient_status_events
-- (claims_trigger_definer) adds jobs. No other role reads or writes it, because it has no row-level security and its rows hold ids of all
-- organizations.
do $$
declare
    others text := 'public, ' || (select string_agg(quote_ident(rolname), ', ') from schema_admin.our_roles() where rolname <> 'claims_owner');
begin
    execute 'revoke all on all tables in schema procrastinate from ' || others;
    execute 'revoke all on all sequences in schema procrastinate from ' || others;
    execute 'revoke all on all functions in schema procrastinate from ' || others;
end
$$;
grant select, insert, update, delete on all tables in schema procrastinate to claims_worker;
grant usage, select on all sequences in schema procrastinate to claims_worker;
grant execute on all functions in schema procrastinate to claims_worker;
grant insert, select, update (status, attempts, scheduled_at, lock) on procrastinate.procrastinate_jobs to claims_trigger_definer;
grant insert, select (job_id, type, at) on procrastinate.procrastinate_events to claims_trigger_definer;
grant usage on all sequences in schema procrastinate to claims_trigger_definer;
grant select on procrastinate.procrastinate_workers to claims_trigger_definer;
grant execute on function procrastinate.procrastinate_defer_jobs_v1 to claims_trigger_definer;
-- Replaces Procrastinate's index on (id, lock), which has to be read completely for each lock that is looked up.
create index if not exists claims_jobs_lock on procrastinate.procrastinate_jobs (lock, id) where status in ('todo', 'doing');
drop index if exists procrastinate.procrastinate_jobs_id_lock_idx_v1;
-- Waiting jobs by organization, for app.ready_jobs. 'todo' is the first value of the type, so `<= 'todo'` equals `= 'todo'`. No other index
-- has that condition, so the planner must use this one.
create index if not exists claims_jobs_organization on procrastinate.procrastinate_jobs ((args ->> 'organization_id'), id)
    where status <= 'todo';
-- Jobs by the time they were enqueued, for app.delete_old_jobs.
create index if not exists claims_events_deferred on procrastinate.procrastinate_events (at) where type = 'deferred';

-- Replaces Procrastinate's function, with the same result and a fixed plan: read the waiting jobs in order until one has a free lock, and
-- look up each lock separately (`offset 0` prevents a join). A worker plans the statement once, at its start, when the queue is mostly
-- empty, and keeps the plan. The plan of Procrastinate's statement then compares all waiting jobs with each other: 26 ms a fetch with 600
-- waiting jobs, 2 s with 5,000.
create or replace function procrastinate.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint)
returns procrastinate.procrastinate_jobs
language plpgsql set search_path = procrastinate, pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
    found_job procrastinate_jobs;
begin
    update procrastinate_jobs j set status = 'doing', worker_id = p_worker_id
    where j.id = (
        select w.id from procrastinate_jobs w
        where w.status = 'todo'
          and (target_queue_names is null or w.queue_name = any (target_queue_names))
          and (w.scheduled_at is null or w.scheduled_at <= now())
          and not exists (select from procrastinate_jobs o where o.lock = w.lock and o.status = 'doing' offset 0)
          and not exists (
            select from procrastinate_jobs o
            where o.lock = w.lock and o.status in ('todo', 'doing') and (o.priority > w.priority or o.priority = w.priority and o.id < w.id)
            offset 0)
        order by w.priority desc, w.id limit 1
        for update skip locked)
    returning j.* into found_job;
    return found_job;
end
$$;
