"""Running a job once, inside the tenant of its event, and what becomes of it when it fails."""

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
"""Other events of the organization that a job takes along when they wait already."""
MAX_DELIVERIES = 20
"""Deliveries: a job that takes its worker down each time must not go on for ever."""
PERMANENT = ("22", "23", "28", "42", "IN", "TR", "CL", "P0")
"""Classes of SQLSTATE that say the same however often one asks: data, integrity, rights, and this schema's own refusals."""


class Failed(Exception):
    """This attempt had no effect, and that is written down. wait: seconds until the next one, None where the job is dead."""

    def __init__(self, what: str, wait: int | None) -> None:
        super().__init__(what)
        self.wait = wait


class Interrupted(Exception):
    """The database went away: whether the attempt had its effect, the next one will see. It costs no attempt."""


class Retry(procrastinate.BaseRetryStrategy):
    """Three attempts in all, with 1 s and 2 s between them; what was interrupted comes again after a second, for free."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> procrastinate.RetryDecision | None:  # noqa: ARG002
        """None where the job is dead, which its log says, too; or was none of ours: its arguments name no event."""
        match exception:
            case Failed(wait=int(wait)):
                return procrastinate.RetryDecision(retry_in={"seconds": wait})
            case Interrupted() | CancelledError():
                return procrastinate.RetryDecision(retry_in={"seconds": 1})
        return None


async def process_batch(job: Job, organization_id: str, event_id: str) -> str:
    """Runs the event's effect, as claims_system inside its tenant, in one round trip; returns what became of the job.

    Queues deliver at least once: the effect and `completed` are one transaction, in which the row of job_processing_logs is
    locked first, so whoever comes again finds it done.
    """
    given = {"organization_id": UUID(organization_id), "event_id": UUID(event_id)}
    if job.attempts >= MAX_DELIVERIES:
        return await _record_failure(given, "interrupted too often", permanent=True)
    try:
        # After a failure alone: what went along may have been the reason.
        ((status, _),) = await _run(given, queries.process, more=0 if job.attempts else BATCH_SIZE)
    except psycopg.Error as error:
        if is_connection_lost(error):
            raise Interrupted from None
        return await _record_failure(given, redacted(error), permanent=(error.sqlstate or "")[:2] in PERMANENT)
    except Unavailable:
        raise Interrupted from None
    except Exception as error:
        return await _record_failure(given, type(error).__name__, permanent=False)
    return str(status)


async def _record_failure(given: dict[str, Any], what: str, *, permanent: bool) -> str:
    """Writes the failure down and raises Failed; returns where another attempt has finished the job meanwhile."""
    try:
        found = await _run(given, queries.record_failure, error=what, permanent=permanent)
    except psycopg.errors.InvalidAuthorizationSpecification:
        raise Failed(what, None) from None  # there is no such event, and nowhere to write it down
    except (psycopg.Error, Unavailable):
        raise Interrupted from None
    if not found:
        return "done before"
    ((status, attempts),) = found
    raise Failed(what, None if status == "failed" else 2 ** (attempts - 1)) from None


async def _run(given: dict[str, Any], query: Statement, **more: Any) -> Rows:
    """The rows of a statement within the job's context, both in one round trip."""
    given = given | more
    return (await app.pool.fetch([(BEGIN_CONTEXT, given), (query.text(given), given)]))[1]
