-- Who may touch the queue: the worker runs it, the trigger on patient_status_events (claims_recorder) fills it, and nobody else
-- reads or writes it. Its rows carry ids of every tenant and stand outside row-level security.
revoke all on all tables in schema procrastinate from public;
revoke all on all functions in schema procrastinate from public;
grant select, insert, update, delete on all tables in schema procrastinate to claims_worker;
grant usage, select on all sequences in schema procrastinate to claims_worker;
grant execute on all functions in schema procrastinate to claims_worker;
grant insert, select, update (status, attempts) on procrastinate.procrastinate_jobs to claims_recorder;
grant insert, select (job_id, type, at) on procrastinate.procrastinate_events to claims_recorder;
grant usage on all sequences in schema procrastinate to claims_recorder;
grant select on procrastinate.procrastinate_workers to claims_recorder;
grant execute on function procrastinate.procrastinate_defer_jobs_v1 to claims_recorder;
-- Each job that is fetched looks for another with its lock; without an index of its own that reads every job there is to do.
create index if not exists claims_jobs_lock on procrastinate.procrastinate_jobs (lock, id) where status in ('todo', 'doing');
