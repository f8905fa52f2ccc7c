"""Alive, and ready."""

import asyncio
import time
from typing import Annotated, Literal

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
"""Seconds that a job may have been ready before the queue counts as stuck."""
TICK_S = 5.0
"""Seconds: the digest of the catalog costs the database about 20 ms."""


Part = Annotated[str, Meta(examples=["ok"])]


class Alive(ResponseBody):
    """The process answers."""

    status: Literal["ok"]


class Ready(ResponseBody):
    """`ok`, what is wrong with each part, or `unknown` where it could not be looked at."""

    database: Part
    schema: Part = "unknown"
    keys: Part = "unknown"
    clock: Part = "unknown"
    queue: Part = "unknown"
    workers: Part = "unknown"


@get("/health", options=RouteOptions(public=True, rate_limited=False, health="alive"))
async def health() -> Alive:
    """Alive; touches nothing."""
    return Alive(status="ok")


@get("/health/ready", options=RouteOptions(public=True, rate_limited=False, health="ready"))
async def ready(state: State) -> Response[Ready]:
    """200 when the database answers, its schema is this code's, it accepts this process's signatures and the clocks agree; else 503. The
    body names each part; queue and workers are reported and never change the status."""
    checking = getattr(state, "checking", None)
    if checking is None or checking.done():
        checking = state.checking = asyncio.create_task(_check(state))
    parts = await asyncio.shield(checking)
    fine = parts.database == parts.schema == parts.keys == parts.clock == "ok"
    return Response(parts, status_code=200 if fine else 503, headers={} if fine else {"Retry-After": "1"})


async def _check(state: State) -> Ready:
    """One for all who ask meanwhile: no limit counts them, and each look asks the database."""
    parts = Ready(database="ok")
    try:
        async with asyncio.timeout(0.9):
            parts.schema, parts.queue, parts.workers = await _state(state)
            found = await check_key(state.pool.fetch, state.signer)
            parts.keys, parts.clock = found.keys, found.clock
        parts.database = state.pool.problem or "ok"
    except NEVER_APPLIED:
        pass
    except (psycopg.Error, TimeoutError, Unavailable):
        parts = Ready(database=state.pool.problem or "can't be reached")
    return parts


async def _state(state: State) -> tuple[str, str, str]:
    """Schema, queue and workers as they were at most LOOKED_AT_EVERY ago."""
    checked_at, result = getattr(state, "health", (0.0, ("", "", "")))
    if time.monotonic() - checked_at > TICK_S:
        found = "; ".join(await differences(state.pool.fetch)) or "ok"
        ((((waited, workers)),),) = await state.pool.fetch([(queries.queue.text({}), {})])
        queue = "ok" if waited < STUCK_QUEUE_AFTER_S else f"a job has been ready for {waited:.0f} s"
        result = (found, queue, "ok" if workers else "no worker lives")
        state.health = (time.monotonic(), result)
    return result


handlers = [health, ready]
"""The two that need no token and count against no limit."""
