-- Who may touch the queue: the worker runs it, the trigger on patient_status_events (claims_trigger_definer) fills it, and nobody else
-- reads or writes it. Its rows carry ids of every tenant and stand outside row-level security.
revoke all on all tables in schema procrastinate from public;
revoke all on all functions in schema procrastinate from public;
grant select, insert, update, delete on all tables in schema procrastinate to claims_worker;
grant usage, select on all sequences in schema procrastinate to claims_worker;
grant execute on all functions in schema procrastinate to claims_worker;
grant insert, select, update (status, attempts) on procrastinate.procrastinate_jobs to claims_trigger_definer;
grant insert, select (job_id, type, at) on procrastinate.procrastinate_events to claims_trigger_definer;
grant usage on all sequences in schema procrastinate to claims_trigger_definer;
grant select on procrastinate.procrastinate_workers to claims_trigger_definer;
grant execute on function procrastinate.procrastinate_defer_jobs_v1 to claims_trigger_definer;
-- In place of Procrastinate's index on (id, lock), which reads everything there is to do for each lock that is looked up.
create index if not exists claims_jobs_lock on procrastinate.procrastinate_jobs (lock, id) where status in ('todo', 'doing');
drop index if exists procrastinate.procrastinate_jobs_id_lock_idx_v1;
-- What waits, by organization (app.ready_jobs). `<= 'todo'`, the first of them, is `= 'todo'` in words that no other index fits.
create index if not exists claims_jobs_organization on procrastinate.procrastinate_jobs ((args ->> 'organization_id'), id)
    where status <= 'todo';
-- What has been kept long enough (app.delete_old_jobs).
create index if not exists claims_events_deferred on procrastinate.procrastinate_events (at) where type = 'deferred';

-- Procrastinate's own, in words that leave the planner no choice: the queue in order up to the first job whose lock is free, each lock
-- looked up by itself (offset 0: no join). A worker plans it once, when it starts and mostly nothing waits, and keeps the plan;
-- Procrastinate's then compares every waiting job with every other, which is 26 ms a fetch at 600 and 2 s at 5,000.
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
