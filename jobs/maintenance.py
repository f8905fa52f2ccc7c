"""What the queue forgets: completed jobs after a day, others after a week. job_processing_logs keeps every job for good."""

from app.database import statements
from jobs import app

queries = statements.load("queue")

KEEP_COMPLETED_H, KEEP_FAILED_H = 24, 168
"""Hours."""
BATCH_SIZE = 1000


@app.periodic(cron="*/10 * * * *")
@app.task(name="delete_old_jobs", queue="maintenance", lock="delete_old_jobs", queueing_lock="delete_old_jobs")
async def delete_old_jobs(timestamp: int) -> int:  # noqa: ARG001
    """In batches, so that no transaction is long; returns how many went."""
    given = {"completed_hours": KEEP_COMPLETED_H, "failed_hours": KEEP_FAILED_H, "at_most": BATCH_SIZE}
    forgotten = 0
    while True:
        ((went,),) = (await app.pool.fetch([(queries.delete_old.text(given), given)]))[0]
        forgotten += went
        if went < BATCH_SIZE:
            return forgotten
