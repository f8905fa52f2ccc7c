"""Health checks: alive and ready."""

import asyncio
import time
from typing import Annotated, Any, ClassVar, Literal

import psycopg
from litestar import Response, get
from litestar.datastructures import State
from msgspec import Meta

from app.database import statements
from app.database.key_check import check_key
from app.database.schema_check import NEVER_APPLIED, differences
from app.errors import Unavailable
from app.http.route_options import RouteOptions
from app.http.schemas import ResponseBody

queries = statements.load("health")

STUCK_QUEUE_AFTER_S = 60.0
"""How long a job may have been ready before the queue counts as stuck."""
STATE_MAX_AGE_S = 5.0
"""How long the state of schema, queue and workers is cached, because the catalog's digest costs the database about 20 ms."""


Part = Annotated[str, Meta(examples=["ok"])]


class Alive(ResponseBody):
    """The process responds."""

    status: Literal["ok"]


class Ready(ResponseBody):
    """The state of each part: `ok`, its problem, or `unknown` if it could not be checked."""

    json_schema: ClassVar[dict[str, Any]] = {
        "required": ["database", "schema", "keys", "clock", "queue", "workers"],
    }

    database: Part
    schema: Part = "unknown"
    keys: Part = "unknown"
    clock: Part = "unknown"
    queue: Part = "unknown"
    workers: Part = "unknown"


@get("/health", options=RouteOptions(public=True, rate_limited=False, health="alive"))
async def health() -> Alive:
    """Check that the process is alive. Nothing else is checked."""
    return Alive(status="ok")


@get("/health/ready", options=RouteOptions(public=True, rate_limited=False, health="ready"))
async def ready(state: State) -> Response[Ready]:
    """Check that the process is ready. The body contains the state of each part.

    Returns 200 if the database responds, its schema is that of this code, it accepts this process's signatures, and the clocks
    agree. Otherwise returns 503. The parts queue and workers never change the status.
    """
    checking = getattr(state, "checking", None)
    if checking is None or checking.done():
        checking = state.checking = asyncio.create_task(_check(state))
    parts = await asyncio.shield(checking)
    fine = parts.database == parts.schema == parts.keys == parts.clock == "ok"
    return Response(parts, status_code=200 if fine else 503, headers={} if fine else {"Retry-After": "1"})


async def _check(state: State) -> Ready:
    """Checks all parts. Concurrent requests share one check, because it queries the database and no rate limit applies."""
    parts = Ready(database="ok")
    try:
        async with asyncio.timeout(0.9):
            parts.schema, parts.queue, parts.workers = await _state(state)
            key_check = await check_key(state.pool.fetch, state.signer)
            parts.keys, parts.clock = key_check.keys, key_check.clock
        parts.database = state.pool.problem or "ok"
    except NEVER_APPLIED:
        pass
    except (psycopg.Error, TimeoutError, Unavailable):
        parts = Ready(database=state.pool.problem or "can't be reached")
    return parts


async def _state(state: State) -> tuple[str, str, str]:
    """The state of schema, queue and workers, at most STATE_MAX_AGE_S old."""
    checked_at, result = getattr(state, "health", (0.0, ("", "", "")))
    if time.monotonic() - checked_at > STATE_MAX_AGE_S:
        schema = "; ".join(await differences(state.pool.fetch)) or "ok"
        ((((waited_s, workers)),),) = await state.pool.fetch([(queries.queue.text({}), {})])
        queue = "ok" if waited_s < STUCK_QUEUE_AFTER_S else f"a job has been ready for {waited_s:.0f} s"
        result = (schema, queue, "ok" if workers else "no worker is running")
        state.health = (time.monotonic(), result)
    return result


handlers = [health, ready]
