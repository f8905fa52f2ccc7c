"""The pool of connections: who gets one and when, how long anybody waits, and what happens when the database is away."""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from app.config import Settings
from app.connection import Call, Connection, Gone, Rows, Statements
from app.errors import REFUSED, NoConnection, Unavailable

LOOKED_AT_EVERY = 0.25
"""Seconds between two looks at the calls under way. The first look at a call may come at once, so the second is the first that counts."""
SLOW_AFTER, CONNECTED_WITHIN, ANSWERED_WITHIN = 2, 3, 25
"""Looks: before a call counts as slow, before one that no connection was free for is 503, and before the server counts as silent (six
seconds, beyond claims_api's statement_timeout)."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0
"""Seconds between two tries to connect."""
NOTED_FOR = 30.0
"""Seconds that readiness speaks of a full disk after the last statement that failed by it."""
LIFETIME = 3600.0
"""Seconds after which a connection is made anew: what a backend caches of plans and catalog only grows."""


QUICK_AT_ONCE = 4
"""Calls: more at a time than there are cores only take turns at them, and the API's own process waits longest for its turn."""


class _Lane:
    """Who waits for a connection, and how many of them have one: no more than at_once."""

    def __init__(self, at_once: int) -> None:
        self.waiting: deque[Call] = deque()
        self.at_once = max(1, at_once)
        self.busy = 0

    @property
    def wants(self) -> bool:
        """Whether somebody waits whose turn it would be."""
        return self.busy < self.at_once and any(not call.answer.done() for call in self.waiting)


class Pool:
    """Up to size connections as one login. A call takes any that is free, else waits its turn; the last one used is taken first.

    What is slow never has all of them: a quarter is left to what is quick. A call that turns out to be slow is no longer counted as quick.
    resets: nothing that a call leaves in its session reaches the next one; for a login whose statements may be injected into.
    """

    def __init__(self, url: str, *, size: int, name: str, prepares: bool = True, resets: bool = True) -> None:
        self._url, self._size, self._name, self._prepares, self._resets = url, size, name, prepares, resets
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        self._quick, self._slow = _Lane(min(QUICK_AT_ONCE, size)), _Lane(size * 3 // 4)
        self._used_by: dict[Connection, _Lane] = {}
        self._under_way: set[Call] = set()
        self._looking = False
        self._first = asyncio.Event()
        self._growing: asyncio.Task[None] | None = None
        self._closed = False
        self._refused = ""
        self._disk_full_at = -math.inf

    async def open(self) -> None:
        """Raises Unavailable where no connection can be had within ten seconds."""
        self._grow()
        try:
            async with asyncio.timeout(10):
                await self._first.wait()
        except TimeoutError:
            await self.close()
            raise self._away() from None

    @property
    def trouble(self) -> str:
        """Why no connection could be had at the last try, or that the disk was full lately; empty where neither is known."""
        full = time.monotonic() - self._disk_full_at < NOTED_FOR
        return self._refused or ("has no space left on its disk" if full else "")

    def _away(self) -> Unavailable:
        return NoConnection() if self._refused == TOO_MANY else Unavailable()

    async def close(self) -> None:
        """Whoever still waits is told."""
        self._closed = True
        if self._growing:
            self._growing.cancel()
        for call in (*self._quick.waiting, *self._slow.waiting):
            call.fail(Unavailable())
        for connection in list(self._all):
            connection.close()

    async def fetch(self, statements: Statements, gone: Gone | None = None, *, slow: bool = False) -> list[Rows]:
        """Runs the statements as one transaction in one round trip; the rows of each. slow: it may take long, or wait for others.

        Raises what the first that failed raised; Unavailable where the database is away or takes too long.
        """
        call = Call(statements, gone)
        self.take_on(call, slow=slow)
        return await self.answer(call)

    @asynccontextmanager
    async def transaction(self, gone: Gone | None = None) -> AsyncIterator["Transaction"]:
        """Several round trips that are one transaction; what is raised inside undoes all of them."""
        transaction = Transaction(self, gone)
        try:
            yield transaction
        finally:
            transaction.leave()

    def take_on(self, call: Call, *, slow: bool) -> None:
        """It gets a connection when it is its turn. Raises Unavailable where too many wait already."""
        lane = self._slow if slow else self._quick
        while lane.waiting and lane.waiting[0].answer.done():
            lane.waiting.popleft()
        if len(lane.waiting) >= 16 * self._size:
            raise Unavailable
        lane.waiting.append(call)
        self._match()

    async def answer(self, call: Call) -> list[Rows]:
        """The call's rows. Where nobody waits for them any more the server is told."""
        self._under_way.add(call)
        if not self._looking:
            self._look_later()
        try:
            return await call.answer
        except psycopg.errors.DiskFull:
            self._disk_full_at = time.monotonic()
            raise
        except asyncio.CancelledError:
            if call.connection:
                call.connection.cancel(call)
            raise
        finally:
            self._under_way.discard(call)

    def _match(self) -> None:
        """Those who wait longest get what is free."""
        for lane in (self._quick, self._slow):
            while lane.waiting and self._free and lane.busy < lane.at_once:
                call = lane.waiting.popleft()
                if not call.answer.done():
                    self._hand_over(self._free.pop(), call, lane)
        self._grow()

    def _hand_over(self, connection: Connection, call: Call, lane: _Lane) -> None:
        self._count(connection, lane)
        try:
            connection.send(call)
        except Exception as error:  # a value that can't be sent is its caller's affair alone
            call.fail(error)
            self._count(connection, None)
            self._free.append(connection)

    def _count(self, connection: Connection, lane: _Lane | None) -> None:
        """The connection is used by that lane now, and by no other any more."""
        if before := self._used_by.pop(connection, None):
            before.busy -= 1
        if lane:
            self._used_by[connection] = lane
            lane.busy += 1

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(LOOKED_AT_EVERY, self._look_at_all)

    def _look_at_all(self) -> None:
        """One timer for all: one for each call was 2% of a short request."""
        self._looking = False
        for call in tuple(self._under_way):
            self._look(call)
        if self._under_way:
            self._look_later()

    def _look(self, call: Call) -> None:
        """At a call that takes its time: is somebody still waiting, and is there still hope?"""
        call.looks += 1
        if call.looks < SLOW_AFTER or call.answer.done():
            return
        if call.connection is None and call.looks >= CONNECTED_WITHIN:
            call.fail(self._away())
        elif call.looks >= ANSWERED_WITHIN and call.connection:
            call.fail(Unavailable())
            call.connection.cancel(call)
        if call.connection in self._used_by:
            self._count(call.connection, self._slow)
            self._match()
        if call.gone and call.looks == SLOW_AFTER and not call.answer.done():
            watch = asyncio.ensure_future(self._watch(call, call.gone))
            call.answer.add_done_callback(lambda _: watch.cancel())

    async def _watch(self, call: Call, gone: Gone) -> None:
        await gone()
        call.fail(Unavailable())
        if call.connection:
            call.connection.cancel(call)

    def give_back(self, connection: Connection) -> None:
        """It can take the next call, unless something of the last caller is left on it."""
        self._count(connection, None)
        if not connection.clean or asyncio.get_running_loop().time() - connection.opened_at > LIFETIME:
            connection.close()
        else:
            self._free.append(connection)
            self._match()

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._count(connection, None)
        if connection in self._free:
            self._free.remove(connection)
        self._grow()

    def _grow(self) -> None:
        if self._growing is None and self._wants_more():
            self._growing = asyncio.ensure_future(self._connect())

    def _wants_more(self) -> bool:
        if self._closed or len(self._all) >= self._size:
            return False
        return len(self._all) < QUICK_AT_ONCE or self._quick.wants or self._slow.wants

    async def _connect(self) -> None:
        """As many as are wanted, one after the other; after a failure later each time, and never at the same time as others."""
        wait = FIRST_WAIT
        while self._wants_more():
            try:
                own = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name=self._name, connect_timeout=2
                )
                backend = await _backend(own)
            except psycopg.Error as error:
                self._refused = why_refused(error)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            wait, self._refused = FIRST_WAIT, ""
            connection = Connection(
                own,
                prepares=self._prepares,
                resets=self._resets,
                backend=backend,
                free=self.give_back,
                gone=self._lost,
            )
            self._all.add(connection)
            self._first.set()
            self.give_back(connection)
        self._growing = None


class Transaction:
    """One explicit transaction on one connection, as Pool.transaction gives it."""

    def __init__(self, pool: Pool, gone: Gone | None) -> None:
        self._pool, self._gone = pool, gone
        self._connection: Connection | None = None

    async def run(self, statements: Statements) -> list[Rows]:
        """The rows of each, in one round trip."""
        if self._connection:
            call = Call(statements, self._gone, held=True)
            self._connection.send(call)
            return await self._pool.answer(call)
        call = Call([("begin", {}), *statements], self._gone, held=True)
        self._pool.take_on(call, slow=True)
        try:
            return (await self._pool.answer(call))[1:]
        finally:
            self._connection = call.connection

    async def commit(self, statements: Statements) -> None:
        """Runs the last statements and ends the transaction, in one round trip; the connection goes back by itself."""
        connection, self._connection = self._connection, None
        assert connection
        call = Call([*statements, ("commit", {})], self._gone)
        connection.send(call)
        await self._pool.answer(call)

    def leave(self) -> None:
        """Gives the connection back; what was not committed is undone. One that is busy comes back by itself, or not at all."""
        if not self._connection or self._connection.busy:
            return None
        undo = Call([("rollback", {})])
        undo.answer.add_done_callback(lambda answer: answer.exception())
        return self._connection.send(undo)


async def _backend(own: psycopg.AsyncConnection[Any]) -> int:
    """The process id of the server's end; 0 where the connection is to a pooler, whose server is another at every transaction."""
    cursor = await own.execute("select pg_backend_pid()")
    row = await cursor.fetchone()
    return own.info.backend_pid if row == (own.info.backend_pid,) else 0


TOO_MANY = "takes no more connections"
REFUSALS = {
    r"too many (clients|connections)|connection slots": TOO_MANY,
    r"password authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist": "does not let this login in",
    r"database .* does not exist": "is not there: the server has no database of that name",
    r"starting up|shutting down|recovery mode": "is starting or stopping",
}
"""What PostgreSQL's words mean, in English as its default is: an error before the connection stands has no SQLSTATE in psycopg."""


def why_refused(error: psycopg.Error) -> str:
    """Why no connection could be had, in words without names or addresses."""
    return next((words for said, words in REFUSALS.items() if re.search(said, str(error))), "can't be reached")


def api_pool(settings: Settings) -> Pool:
    """The API's, not open yet. Its name tells `make schema` which key the process signs with."""
    assert settings.api_database_url
    prepares = settings.prepared_statements == "on"
    kid = next(iter(settings.token_keys), "")
    return Pool(settings.api_database_url, size=settings.pool_size, name=f"claims-api {kid}", prepares=prepares)


def redacted(error: psycopg.Error) -> str:
    """A database error for the log: its class and SQLSTATE. Messages hold values of rows, so they stay out."""
    words = f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return f"{words}: {REFUSED[error.sqlstate]}" if error.sqlstate in REFUSED else words
