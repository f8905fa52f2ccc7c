"""Alive, and ready."""

import asyncio
import time
from typing import Annotated, Literal

import psycopg
from litestar import Response, get
from litestar.datastructures import State
from msgspec import Meta

from app import schema, sql
from app.errors import Unavailable
from app.wire import Shape

queries = sql.load("health")

STUCK_AFTER = 60.0
"""Seconds that a job may have been ready before the queue counts as stuck."""
LOOKED_AT_EVERY = 5.0
"""Seconds: the digest of the catalog costs the database about 20 ms."""


Part = Annotated[str, Meta(examples=["ok"])]


class Alive(Shape):
    """The process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """`ok`, or what is wrong with each part."""

    database: Part
    schema: Part
    queue: Part


@get("/health", public=True, unlimited=True)
async def health() -> Alive:
    """Alive; touches nothing."""
    return Alive(status="ok")


@get("/health/ready", public=True, unlimited=True)
async def ready(state: State) -> Response[Ready]:
    """200 when the database answers, its schema is this code's, a worker lives and the queue moves; 503 names which does not."""
    parts = Ready(database="ok", schema="ok", queue="ok")
    try:
        async with asyncio.timeout(0.9):
            await state.pool.fetch([("select 1", {})])
            parts.schema, parts.queue = await _state(state)
    except (psycopg.Error, TimeoutError, Unavailable):
        parts.database = "unreachable"
    fine = parts == Ready(database="ok", schema="ok", queue="ok")
    return Response(parts, status_code=200 if fine else 503, headers={} if fine else {"Retry-After": "1"})


async def _state(state: State) -> tuple[str, str]:
    """Schema and queue as they were at most LOOKED_AT_EVERY ago."""
    checked_at, result = getattr(state, "seen", (0.0, ("", "")))
    if time.monotonic() - checked_at > LOOKED_AT_EVERY:
        found = "; ".join(await schema.differences(state.pool.fetch)) or "ok"
        ((((waited, workers)),),) = await state.pool.fetch([(queries.queue.text({}), {})])
        result = (found, _queue(waited, workers))
        state.seen = (time.monotonic(), result)
    return result


def _queue(waited: float, workers: int) -> str:
    if not workers:
        return "no worker lives"
    return "ok" if waited < STUCK_AFTER else f"a job has been ready for {waited:.0f} s"


handlers = [health, ready]
"""The two that need no token and count against no limit."""
