"""Execution of a job, once, in the context of its event's organization, and the handling of its failures."""

from asyncio import CancelledError
from typing import Any
from uuid import UUID

import procrastinate
import psycopg
from procrastinate.jobs import Job

from app.database import statements
from app.database.connection import Rows
from app.database.statements import Statement
from app.errors import Unavailable, redacted
from jobs import app
from jobs.worker import is_connection_lost

queries = statements.load("queue")

BEGIN_CONTEXT = "select set_config('role', context.begin_job(%(organization_id)s, %(event_id)s), true)"
BATCH_SIZE = 50
"""Other ready events that a job processes in the same transaction: of its patient, and of the organization's other patients each."""
MAX_DELIVERIES = 20
"""A job fails permanently after this many deliveries, because it may crash its worker each time."""
PERMANENT = ("22", "23", "28", "42", "IN", "TR", "CL", "P0")
"""SQLSTATE classes of errors that a retry does not fix: data, integrity, privileges, and the errors that this schema raises."""


class Failed(Exception):
    """The attempt had no effect, and its failure is recorded. wait_s: time until the next attempt, None if there is none."""

    def __init__(self, reason: str, wait_s: int | None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Interrupted(Exception):
    """The connection to the database was lost. The next attempt finds out if this one had its effect. It does not count as an attempt."""


class Retry(procrastinate.BaseRetryStrategy):
    """Three attempts in all, after waits of 1 s and 2 s. An interrupted attempt runs again after one second and is not counted."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> procrastinate.RetryDecision | None:  # noqa: ARG002
        """Returns None if the job has failed permanently, or if its arguments name no event."""
        match exception:
            case Failed(wait_s=int(wait_s)):
                return procrastinate.RetryDecision(retry_in={"seconds": wait_s})
            case Interrupted() | CancelledError():
                return procrastinate.RetryDecision(retry_in={"seconds": 1})
        return None


async def process_batch(job: Job, organization_id: str, event_id: str) -> str:
    """Applies the event's effect as claims_system in its organization; returns the job's status.

    Each part of the effect is one transaction in one round trip, and most events have one part. Queues deliver at least once. The
    effect and the job's progress are one transaction, which first locks the row in job_processing_logs. A second delivery therefore
    finds the job completed, or continues after its last part.
    """
    params = {"organization_id": UUID(organization_id), "event_id": UUID(event_id)}
    if job.attempts >= MAX_DELIVERIES:
        return await _record_failure(params, "interrupted too often", permanent=True)
    try:
        status, is_followed = "processing", False
        while status == "processing":
            # After a failure the event runs alone, because another event of its batch may have been the cause.
            ((status, _, is_followed),) = await _run(params, queries.process, more=0 if job.attempts else BATCH_SIZE)
        if is_followed and job.id:
            app.wake_after(job.id)
    except psycopg.Error as error:
        if is_connection_lost(error):
            raise Interrupted from None
        return await _record_failure(params, redacted(error), permanent=(error.sqlstate or "")[:2] in PERMANENT)
    except Unavailable:
        raise Interrupted from None
    except Exception as error:
        return await _record_failure(params, type(error).__name__, permanent=False)
    return str(status)


async def _record_failure(params: dict[str, Any], reason: str, *, permanent: bool) -> str:
    """Records the failure and raises Failed. Returns if another attempt has completed the job in the meantime."""
    try:
        rows = await _run(params, queries.record_failure, error=reason, permanent=permanent)
    except psycopg.errors.InvalidAuthorizationSpecification:
        raise Failed(reason, None) from None  # the event does not exist, so there is no row to record the failure in
    except (psycopg.Error, Unavailable):
        raise Interrupted from None
    if not rows:
        return "already completed"
    ((status, attempts),) = rows
    raise Failed(reason, None if status == "failed" else 2 ** (attempts - 1)) from None


async def _run(job_params: dict[str, Any], statement: Statement, **more: Any) -> Rows:
    """Begins the job's context and runs the statement, in one round trip; returns its rows."""
    params = job_params | more
    return (await app.pool.fetch([(BEGIN_CONTEXT, params), (statement.text(params), params)]))[1]
