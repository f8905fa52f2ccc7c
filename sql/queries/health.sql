-- name: queue
-- Seconds that the oldest job that could run has been waiting, and how many workers live.
select oldest, workers
from ctx.queue_state();
