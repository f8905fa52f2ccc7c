"""The pool of connections, and statements that go out together."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg_pool import AsyncConnectionPool

from app.config import Settings
from app.errors import Unavailable

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]
Rows = list[tuple[Any, ...]]
Statements = Sequence[tuple[str, Mapping[str, Any]]]

ANSWER_WITHIN = 6.0
"""Seconds for one call; beyond claims_api's statement_timeout, so only a silent server is ever cut off by it."""


class JsonBytes(Loader):
    """JSON that PostgreSQL built is passed on as it is."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


async def _configure(connection: AsyncConnection[Any], threshold: int | None) -> None:
    await connection.set_autocommit(True)
    connection.prepare_threshold = threshold
    connection.adapters.register_loader("json", JsonBytes)


def open_pool(settings: Settings) -> Pool:
    """A pool that is not open yet. Waiting is bounded in time and number: beyond it, 503 at once."""
    assert settings.api_database_url
    return AsyncConnectionPool(
        settings.api_database_url,
        min_size=min(4, settings.pool_size),
        max_size=settings.pool_size,
        kwargs={"application_name": "claims-api", "connect_timeout": 2},
        configure=partial(_configure, threshold=1 if settings.prepared_statements == "on" else None),
        timeout=0.8,
        max_waiting=settings.pool_size * 16,
        # Else the pool waits ever longer after a failure, and is away as long again as the database was.
        reconnect_timeout=1,
        reconnect_failed=AsyncConnectionPool.check,
        open=False,
    )


async def execute(connection: AsyncConnection[tuple[Any, ...]], statements: Statements) -> list[Rows]:
    """The rows of each statement, all sent in one round trip; one transaction where none is open."""
    async with connection.pipeline():
        cursors = [await connection.cursor().execute(text, given) for text, given in statements]
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


async def _forget_skipped(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Forgets what psycopg takes for prepared and the server never saw, because an error earlier in the pipeline skipped it.

    Else every later use of it on this connection fails with 26000 (psycopg 3.3.9). A rollback of its own forgets everything.
    Behind a pooler that prepares under its own names that is all of them: closed, so that it forgets them too.
    """
    prepared = connection._prepared._names
    if not prepared:
        return
    cursor = await connection.execute("select name from pg_prepared_statements", prepare=False)
    there = {name.encode() for (name,) in await cursor.fetchall()}
    for key in [key for key, name in prepared.items() if name not in there]:
        connection._prepared._to_flush.append(prepared.pop(key))


async def fetch(pool: Pool, statements: Statements) -> list[Rows]:
    """Runs the statements as one transaction in one round trip; the rows of each."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN), pool.connection() as connection:
            try:
                return await execute(connection, statements)
            except psycopg.Error:
                if not connection.broken:
                    await _forget_skipped(connection)
                raise
    except TimeoutError:
        raise Unavailable from None


async def ping(pool: Pool) -> None:
    """Raises where the database can't be reached."""
    async with pool.connection() as connection:
        await connection.execute("select 1")


def redacted(error: psycopg.Error) -> str:
    """A database error for the log: its class and SQLSTATE. Messages hold values of rows, so they stay out."""
    return f"{type(error).__name__} {error.sqlstate or ''}".strip()
