-- fragment: filters
-- The filters of list_newest and count.
and j.status = :status -- if :status
and j.job_type = :job_type -- if :job_type

-- name: list_newest
-- written out: limit
-- The organization's jobs, newest first.
select json_build_array(j.created_at, j.job_id), job_json(j)
from job_processing_logs j
where true
-- use: filters
and (j.created_at, j.job_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by j.created_at desc, j.job_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*)
from (
    select
    from job_processing_logs j
    where true
    -- use: filters
    limit 10001
) as counted;

-- name: retry
-- Retries a failed job; no row if there is no such job.
select job_json(j)
from retry_job(:job_id) j;
