-- name: queue
-- The waiting time in seconds of the oldest job that could run, and the number of live workers.
select oldest, workers
from app.queue_state();

-- name: probe
-- Checks whether this process's signatures are accepted; also the database's time in seconds since 1970.
-- signed: kid
select auth.probe(:kid, :proof), extract(epoch from clock_timestamp())::double precision;
