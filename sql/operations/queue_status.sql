-- State of the job queue (`make queue-status`), as an administrator. It shows ids, names and times, and no data of a row.
\echo queue
select task_name as job,
       count(*) filter (where status = 'todo') as waiting,
       count(*) filter (where status = 'doing') as running,
       count(*) filter (where status = 'succeeded') as done,
       count(*) filter (where status not in ('todo', 'doing', 'succeeded')) as failed
from procrastinate.procrastinate_jobs
group by task_name
order by task_name;

\echo oldest job that could run, seconds; live workers
select round(oldest::numeric, 1) as oldest, workers
from app.queue_state();

\echo workers
select id, round(extract(epoch from now()) - extract(epoch from last_heartbeat), 1) as silent_for,
       (select count(*) from procrastinate.procrastinate_jobs j where j.worker_id = w.id and j.status = 'doing') as running
from procrastinate.procrastinate_workers w
order by id;

\echo the last ten failed jobs
select j.id, j.task_name as job, j.attempts, j.args ->> 'organization_id' as organization, j.args ->> 'event_id' as event,
       max(e.at) as at
from procrastinate.procrastinate_jobs j
join procrastinate.procrastinate_events e on e.job_id = j.id
where j.status not in ('todo', 'doing', 'succeeded')
group by j.id
order by j.id desc
limit 10;
