"""The pool, and Session: what a handler knows of the database.

A call of Session is one implicit transaction in one round trip: the context is entered, the statements run, and PostgreSQL
commits them together at the end of the pipeline. With the end of the transaction the context is gone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from litestar import Response
from litestar.di import NamedDependency
from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg_pool import AsyncConnectionPool

from app.config import Settings
from app.errors import NotFound, Unavailable
from app.sql import Query
from app.tokens import Caller
from app.wire import Cursors, Page, envelope

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]

ENTER = """select set_config('role', ctx.enter(
    %(organization_id)s, %(user_id)s, %(request_id)s, %(address)s, 'api', %(read_only)s), true)"""

ANSWER_WITHIN = 6.0
"""Seconds for one call; beyond claims_api's statement_timeout, so only a silent server is ever cut off by it."""


class JsonBytes(Loader):
    """JSON that PostgreSQL built is passed on as it is."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)
    connection.prepare_threshold = 1
    connection.adapters.register_loader("json", JsonBytes)


def open_pool(settings: Settings) -> Pool:
    """A pool that is not open yet. Waiting is bounded in time and number: beyond it, 503 at once."""
    assert settings.api_database_url
    return AsyncConnectionPool(
        settings.api_database_url,
        min_size=min(4, settings.pool_size),
        max_size=settings.pool_size,
        kwargs={"application_name": "claims-api", "connect_timeout": 2},
        configure=_configure,
        timeout=0.8,
        max_waiting=settings.pool_size * 16,
        reconnect_timeout=1,
        open=False,
    )


async def fetch(pool: Pool, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[tuple[Any, ...]]]:
    """Runs the statements as one transaction in one round trip; the rows of each."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN), pool.connection() as connection:
            async with connection.pipeline():
                cursors = [await connection.cursor().execute(text, given) for text, given in statements]
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
    except TimeoutError:
        raise Unavailable from None


class Session:
    """One caller's way to the database; every call enters the caller's context anew."""

    def __init__(
        self, pool: Pool, cursors: Cursors, caller: Caller, request: Mapping[str, str], read_only: bool
    ) -> None:
        self._pool = pool
        self._cursors = cursors
        self._caller = caller
        self._request = request
        self._read_only = read_only

    async def rows(self, *queries: Query, **given: Any) -> list[list[tuple[Any, ...]]]:
        """The rows of each query, all run in one transaction and one round trip."""
        context = {
            "organization_id": self._caller.organization_id,
            "user_id": self._caller.user_id,
            "request_id": self._request["id"],
            "address": self._request["address"],
            "read_only": self._read_only,
        }
        # A text of its own for every role: a plan that two roles share on one connection is made anew at every switch.
        tag = f"/* {self._caller.role} */ "
        statements = [(ENTER, context), *((tag + query.text(given), given) for query in queries)]
        return (await fetch(self._pool, statements))[1:]

    def answer(self, data: bytes, status_code: int, headers: dict[str, str] | None = None) -> Any:
        """The envelope around one record, with a status of its own."""
        return Response(
            envelope(data, self._request["id"]), status_code=status_code, headers=headers, media_type="application/json"
        )

    async def one(self, *queries: Query, **given: Any) -> Any:
        """The envelope around the one row that the last query gives; NotFound where it gives none."""
        rows = (await self.rows(*queries, **given))[-1]
        if not rows:
            raise NotFound
        return envelope(rows[0][0], self._request["id"])

    async def created(self, *queries: Query, **given: Any) -> Any:
        """201 with the new record and its Location."""
        data = (await self.rows(*queries, **given))[-1][0][0]
        return self.answer(data, 201, {"Location": f"{self._request['path']}/{msgspec.json.decode(data)['id']}"})

    async def wrapped(self, query: Query, around: dict[str, str | int], name: str) -> Any:
        """The envelope around an object of Python's with the row as one more field, called name."""
        (row,) = (await self.rows(query))[0]
        return envelope(msgspec.json.encode(around | {name: msgspec.Raw(row[0])}), self._request["id"])

    async def page(self, query: Query, count: Query, page: Page, of: Query | None = None, **given: Any) -> Any:
        """A list's envelope: by cursor, or by offset with a total where the client asked for an offset.

        of: a query that must give a row for the list to be there at all.
        """
        owner = (of,) if of else ()
        bound = f"{self._caller.organization_id}/{self._caller.user_id}/{query.name}/{sorted(given.items())}"
        after = self._cursors.read(page.cursor, bound) if page.cursor else None
        counted = (count,) if page.offset is not None else ()
        *seen, found = await self.rows(
            *owner, *counted, query, limit=page.limit, offset=page.offset, after=after, **given
        )
        if of and not seen[0]:
            raise NotFound
        if counted:
            return page.by_offset([row[1] for row in found], seen[-1][0][0], self._request["id"])
        return page.by_cursor(found, lambda key: self._cursors.write(key, bound), self._request["id"])


Db = NamedDependency[Session]
"""How a handler asks for its session: `db: Db`."""


async def ping(pool: Pool) -> None:
    """Raises where the database can't be reached."""
    async with pool.connection() as connection:
        await connection.execute("select 1")


def redacted(error: psycopg.Error) -> str:
    """A database error for the log: its class and SQLSTATE. Messages hold values of rows, so they stay out."""
    return f"{type(error).__name__} {error.sqlstate or ''}".strip()
