"""Running a job's effect once, inside the tenant of its event."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from app import sql
from app.pool import redacted
from app.sql import Query
from jobs import app

queries = sql.load("jobs")

ENTER = "select set_config('role', ctx.enter_job(%(organization_id)s, %(event_id)s), true)"


class Overtaken(Exception):
    """Another attempt has taken this job since."""


async def run_once(organization_id: str, event_id: str, effect: Query) -> str:
    """Runs the effect once for the event, as claims_system inside its tenant; returns what became of the job.

    Queues deliver at least once. The effect and `completed` are one transaction, and only the attempt whose token stands in
    job_processing_logs may commit it; a job that is done already gives `done before`.
    """
    given = {"organization_id": UUID(organization_id), "event_id": UUID(event_id), "token": uuid4()}
    if (await _run(given, queries.start))[0] == "completed":
        return "done before"
    try:
        async with _pool().connection() as connection:
            await _execute(connection, ENTER, given)
            result = await _execute(connection, effect.text(given), given)
            if not await _execute(
                connection, queries.complete.text(given), given | {"result": result[0] if result else "{}"}
            ):
                raise Overtaken
    except Exception as error:
        failure = redacted(error) if isinstance(error, psycopg.Error) else type(error).__name__
        await _run(given | {"error": failure}, queries.fail)
        raise
    return "completed"


def _pool() -> Any:
    return app.connector.pool  # type: ignore[attr-defined]


async def _run(given: dict[str, Any], query: Query) -> tuple[Any, ...]:
    """One statement in a transaction of its own."""
    async with _pool().connection() as connection:
        await _execute(connection, ENTER, given)
        return await _execute(connection, query.text(given), given)


async def _execute(connection: AsyncConnection[Any], text: str, given: dict[str, Any]) -> tuple[Any, ...]:
    cursor = await connection.execute(text, given)
    return (await cursor.fetchone() or ()) if cursor.description else ()
