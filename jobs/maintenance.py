"""Removal of old jobs from the queue: completed jobs after a day, others after a week. job_processing_logs keeps every job."""

from app.database import statements
from jobs import app

queries = statements.load("queue")

KEEP_COMPLETED_H, KEEP_FAILED_H = 24, 168
"""How long the queue keeps a completed job, and any other job that has ended."""
BATCH_SIZE = 1000


@app.periodic(cron="*/10 * * * *")
@app.task(name="delete_old_jobs", queue="maintenance", lock="delete_old_jobs", queueing_lock="delete_old_jobs")
async def delete_old_jobs(timestamp: int) -> int:  # noqa: ARG001
    """Deletes in batches, so that every transaction is short; returns how many jobs it deleted."""
    params = {"completed_hours": KEEP_COMPLETED_H, "failed_hours": KEEP_FAILED_H, "at_most": BATCH_SIZE}
    total = 0
    while True:
        ((deleted,),) = (await app.pool.fetch([(queries.delete_old.text(params), params)]))[0]
        total += deleted
        if deleted < BATCH_SIZE:
            return total
