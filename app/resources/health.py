"""Alive, and ready."""

import asyncio
import time
from typing import Annotated, Literal

import psycopg
from litestar import Response, get
from litestar.datastructures import State
from msgspec import Meta

from app.database import key_check as signing
from app.database import statements as sql
from app.errors import Unavailable
from app.http.schemas import Shape
from app.operations import migrate as schema

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
    """`ok`, what is wrong with each part, or `unknown` where it could not be looked at."""

    database: Part
    schema: Part = "unknown"
    keys: Part = "unknown"
    clock: Part = "unknown"
    queue: Part = "unknown"
    workers: Part = "unknown"


@get("/health", public=True, unlimited=True)
async def health() -> Alive:
    """Alive; touches nothing."""
    return Alive(status="ok")


@get("/health/ready", public=True, unlimited=True)
async def ready(state: State) -> Response[Ready]:
    """200 when the database answers, its schema is this code's, it accepts this process's signatures and the clocks agree; else 503. The
    body names each part; queue and workers are reported and never change the status."""
    looking = getattr(state, "looking", None)
    if looking is None or looking.done():
        looking = state.looking = asyncio.create_task(_look(state))
    parts = await asyncio.shield(looking)
    fine = parts.database == parts.schema == parts.keys == parts.clock == "ok"
    return Response(parts, status_code=200 if fine else 503, headers={} if fine else {"Retry-After": "1"})


async def _look(state: State) -> Ready:
    """One for all who ask meanwhile: no limit counts them, and each look asks the database."""
    parts = Ready(database="ok")
    try:
        async with asyncio.timeout(0.9):
            parts.schema, parts.queue, parts.workers = await _state(state)
            found = await signing.look(state.pool.fetch, state.signer)
            parts.keys, parts.clock = found.keys, found.clock
        parts.database = state.pool.trouble or "ok"
    except schema.NEVER_APPLIED:
        pass
    except (psycopg.Error, TimeoutError, Unavailable):
        parts = Ready(database=state.pool.trouble or "can't be reached")
    return parts


async def _state(state: State) -> tuple[str, str, str]:
    """Schema, queue and workers as they were at most LOOKED_AT_EVERY ago."""
    checked_at, result = getattr(state, "seen", (0.0, ("", "", "")))
    if time.monotonic() - checked_at > LOOKED_AT_EVERY:
        found = "; ".join(await schema.differences(state.pool.fetch)) or "ok"
        ((((waited, workers)),),) = await state.pool.fetch([(queries.queue.text({}), {})])
        queue = "ok" if waited < STUCK_AFTER else f"a job has been ready for {waited:.0f} s"
        result = (found, queue, "ok" if workers else "no worker lives")
        state.seen = (time.monotonic(), result)
    return result


handlers = [health, ready]
"""The two that need no token and count against no limit."""
