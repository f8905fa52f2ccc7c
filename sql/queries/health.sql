-- name: oldest_job
-- For how many seconds the oldest job that could run has been waiting; 0 when none is. No row of the queue is shown.
select ctx.oldest_job();
