-- name: queue
-- Seconds that the oldest job that could run has been waiting, and how many workers live.
select oldest, workers
from app.queue_state();

-- name: probe
-- Whether what this process signs is accepted, and the database's time in seconds since 1970.
-- signed: kid
select auth.probe(:kid, :proof), extract(epoch from clock_timestamp())::double precision;
