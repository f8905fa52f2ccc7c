"""What the queue forgets: completed jobs after a day, others after a week. job_processing_logs keeps every job for good."""

from app.database import statements as sql
from jobs import app

queries = sql.load("queue")

COMPLETED_FOR, FAILED_FOR = 24, 168
"""Hours."""
AT_ONCE = 1000


@app.periodic(cron="*/10 * * * *")
@app.task(name="forget_jobs", queue="upkeep", lock="forget_jobs", queueing_lock="forget_jobs")
async def forget_jobs(timestamp: int) -> int:  # noqa: ARG001
    """In batches, so that no transaction is long; returns how many went."""
    given = {"completed_hours": COMPLETED_FOR, "failed_hours": FAILED_FOR, "at_most": AT_ONCE}
    forgotten = 0
    while True:
        ((went,),) = (await app.pool.fetch([(queries.forget.text(given), given)]))[0]
        forgotten += went
        if went < AT_ONCE:
            return forgotten
