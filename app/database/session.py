"""Session: what a handler knows of the database.

A call of Session is one implicit transaction in one round trip: the context is entered, the statements run, and PostgreSQL
commits them together at the end of the pipeline. With the end of the transaction the context is gone. A call with an
Idempotency-Key is one explicit transaction, in which the key is taken first and the answer kept last.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import psycopg
from litestar import Response
from litestar.di import NamedDependency
from psycopg.types.json import Json

from app.database import statements as sql
from app.database.connection import Gone, Rows, Statements
from app.database.context import ENTER, Signer
from app.database.pool import Lane, Pool, Transaction
from app.database.statements import Query
from app.errors import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    NotFound,
    PreconditionFailed,
    from_database,
)
from app.http.pagination import Cursors, Page
from app.http.responses import Reply
from app.http.schemas import envelope
from app.security.tokens import Caller

queries = sql.load("idempotency_keys")


IN_FLIGHT = 2.0
"""Seconds to wait for whoever has the same key, as claims_api's lock_timeout says for other processes."""
_flights: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()


@asynccontextmanager
async def alone(name: Hashable) -> AsyncIterator[None]:
    """The only one in this process under that name; Conflict where that takes too long."""
    lock = _flights.setdefault(name, asyncio.Lock())
    try:
        async with asyncio.timeout(IN_FLIGHT):
            await lock.acquire()
    except TimeoutError:
        raise Conflict({"fields": {"Idempotency-Key": ["Is in flight"]}}) from None
    try:
        yield
    finally:
        lock.release()


WINDOW_BITS, MEMORY_LEVEL = 12, 5
"""Of zlib: a fifth of what its defaults cost for an answer of 700 bytes, and as small."""
PACKED = b"H"
"""How zlib's format begins with such a window; no answer of ours does."""


def _packed(body: bytes) -> bytes:
    """An answer as it is kept, about half as long."""
    packer = zlib.compressobj(wbits=WINDOW_BITS, memLevel=MEMORY_LEVEL)
    return packer.compress(body) + packer.flush()


def _unpacked(kept: bytes) -> bytes:
    """The answer byte for byte; one that an earlier version kept was not packed."""
    return zlib.decompress(kept) if kept.startswith(PACKED) else kept


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a session knows of its request: who calls, what about, and with which precautions."""

    caller: Caller
    request_id: str
    address: str
    path: str
    source: str = "api"
    read_only: bool = False
    lane: Lane = "quick"
    key: str | None = None
    body_hash: bytes = b""
    versions: list[int] | None = None


class Session:
    """One caller's way to the database; every call enters the caller's context anew."""

    def __init__(
        self, pool: Pool, cursors: Cursors, signer: Signer, about: About, gone: Gone | None = None, query: Any = None
    ) -> None:
        self._pool = pool
        self._gone = gone
        self._cursors = cursors
        self._signer = signer
        self._about = about
        self.query = query
        """The query string, as the Struct that the route names with `query=`."""

    def _statements(self, queries: Sequence[Query], given: Mapping[str, Any]) -> Statements:
        about = self._about
        context = self._signer.entering(
            about.caller,
            request_id=about.request_id,
            address=about.address,
            source=about.source,
            read_only=about.read_only,
        )
        # A text of its own for every role: a plan that two roles share on one connection is made anew at every switch.
        tag = f"/* {about.caller.role} */ "
        given = {**given, "caller": about.caller.user_id}  # what a proof for a function of the caller's own names
        return [(ENTER, context), *(self._signer.statement(query, given, tag) for query in queries)]

    async def rows(self, *queries: Query, **given: Any) -> list[Rows]:
        """The rows of each query, all run in one transaction and one round trip."""
        about = self._about
        statements = self._statements(queries, given)
        return (await self._pool.fetch(statements, self._gone, lane=about.lane, key=about.caller.key))[1:]

    async def run(self, build: Callable[[list[Rows]], Reply], *queries: Query, **given: Any) -> Any:
        """The answer that build makes of the queries' rows; what it raises undoes them where the request has a key.

        Everything that changes something goes through here, so that an Idempotency-Key holds for all of it.
        """
        if self._about.key is None:
            return build(await self.rows(*queries, **given)).response()
        # Whoever comes with a key that is in flight here waits without a connection: else a few of them would take them all.
        flight = alone((self._about.caller.user_id, self._about.path, self._about.key))
        pooled = self._pool.transaction(self._gone, lane=self._about.lane, key=self._about.caller.key)
        async with flight, pooled as transaction:
            return await self._once(transaction, build, queries, given)

    async def _once(
        self,
        transaction: Transaction,
        build: Callable[[list[Rows]], Reply],
        asked: Sequence[Query],
        given: Mapping[str, Any],
    ) -> Response[bytes]:
        """The first answer to the request's key: made and kept now, or given again."""
        about = self._about
        key = {"path": about.path, "key": about.key, "body_hash": about.body_hash}
        (enter, take, *effect) = self._statements([queries.take, *asked], {**given, **key})
        try:
            _, taken = await transaction.run([enter, take])
        except psycopg.errors.LockNotAvailable:
            raise Conflict({"fields": {"Idempotency-Key": ["Is in flight"]}}) from None
        for same, status, headers, body in taken:
            if not same:
                raise IdempotencyMismatch
            again = msgspec.json.decode(headers, type=dict[str, str]) | {"Idempotent-Replayed": "true"}
            return Reply(_unpacked(body), status, again).response()
        reply = build(await transaction.run(effect))
        kept = {**key, "status": reply.status, "headers": Json(reply.headers), "body": _packed(reply.body)}
        await transaction.commit([(queries.keep.text(kept), kept)])
        return reply.response()

    def reply(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
        """The envelope around data."""
        return Reply(envelope(data, self._about.request_id), status, headers or {})

    def _record(self, row: tuple[Any, ...], status: int = 200) -> Reply:
        """A row of (JSON) or (JSON, version): the version is its ETag, and what is new has a Location."""
        headers = {"ETag": f'"{row[1]}"'} if len(row) > 1 else {}
        if status == 201:
            headers["Location"] = f"{self._about.path}/{msgspec.json.decode(row[0])['id']}"
        return self.reply(row[0], status, headers)

    async def one(self, *queries: Query, **given: Any) -> Any:
        """200 with the one row that the last query gives; NotFound where it gives none."""
        return await self.run(lambda results: self._record(_only(results[-1])), *queries, **given)

    async def one_or_nothing(self, query: Query, **given: Any) -> Any:
        """200 with the one row that the query gives; 204 where it gives none."""

        def build(results: list[Rows]) -> Reply:
            return self._record(results[0][0]) if results[0] else Reply(b"", 204)

        return await self.run(build, query, **given)

    async def lines(self, query: Query, lines: list[dict[str, Any]]) -> Rows:
        """The query's rows for many lines at once; it takes them as `lines` and the request's idempotency key as `key`."""
        try:
            given = {"lines": msgspec.json.encode(lines).decode(), "key": self._about.key}
            return (await self.rows(query, **given))[0]
        except psycopg.Error as error:
            raise from_database(error) from None

    async def changed(self, find: Query, change: Query, **given: Any) -> Any:
        """200 with the changed row. Where nothing was changed, NotFound if find gives no row either.

        change may take `versions`, those that If-Match names: PreconditionFailed where it is another one. A row that the caller
        sees and yet could not change is Forbidden.
        """
        conditional = self._about.versions is not None and "versions" in change.options

        def build(results: list[Rows]) -> Reply:
            found, done = results
            if found and not done:
                raise PreconditionFailed if conditional else Forbidden
            return self._record(_only(done))

        return await self.run(build, find, change, versions=self._about.versions, **given)

    async def wrapped(self, around: dict[str, object], name: str, *queries: Query, status: int = 200) -> Any:
        """An object of Python's with the last query's row as one more field, called name."""
        row = _only((await self.rows(*queries))[-1])
        return self.reply(msgspec.json.encode(around | {name: msgspec.Raw(row[0])}), status).response()

    async def created(self, *queries: Query, **given: Any) -> Any:
        """201 with the new record and its Location."""
        return await self.run(lambda results: self._record(_only(results[-1]), 201), *queries, **given)

    async def accepted(self, *queries: Query, **given: Any) -> Any:
        """202 with the one row that the last query gives; NotFound where it gives none."""
        return await self.run(lambda results: self._record(_only(results[-1]), 202), *queries, **given)

    async def done(self, *queries: Query, **given: Any) -> Any:
        """204; NotFound unless every query gives a row."""

        def build(results: list[Rows]) -> Reply:
            for rows in results:
                _only(rows)
            return Reply(b"", 204)

        return await self.run(build, *queries, **given)

    async def page(self, query: Query, count: Query, of: Query | None = None, **given: Any) -> Any:
        """A list's envelope: by cursor, or by offset with a total where the client asked for an offset.

        The route's query is a Page. of: a query that must give a row for the list to be there at all.
        """
        page: Page = self.query
        owner = (of,) if of else ()
        caller = self._about.caller
        bound = f"{caller.ids}/{query.name}/{sorted(pair for pair in given.items() if pair[1] is not None)}"
        after = self._cursors.read(page.cursor, bound) if page.cursor else None
        counted = (count,) if page.offset is not None else ()
        *seen, found = await self.rows(
            *owner, *counted, query, limit=page.limit, offset=page.offset or None, after=after, **given
        )
        if of and not seen[0]:
            raise NotFound
        if counted:
            body = page.by_offset([row[1] for row in found], seen[-1][0][0], self._about.request_id)
        else:
            body = page.by_cursor(found, lambda key: self._cursors.write(key, bound), self._about.request_id)
        return Reply(body).response()


def _only(rows: Rows) -> tuple[Any, ...]:
    if not rows:
        raise NotFound
    return rows[0]


Db = NamedDependency[Session]
"""How a handler asks for its session: `db: Db`."""
