"""The pool of connections: who gets one and when, how long anybody waits, and what happens when the database is away."""

import asyncio
import math
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Any, Literal

import psycopg

from app.config import Settings
from app.database.connection import ANONYMOUS, Call, Connection, Gone, Rows, Statements
from app.database.fair_queue import FairQueue, Key, is_anonymous
from app.errors import REFUSED, NoConnection, RateLimited, Unavailable

LOOKED_AT_EVERY = 0.25
"""Seconds between two looks at the calls under way. The first look at a call may come at once, so the second is the first that counts."""
SLOW_AFTER, CONNECTED_WITHIN, ANSWERED_WITHIN, WAITED_AT_MOST = 2, 3, 25, 40
"""Looks: before a call counts as slow; before one that waits while no call ends is 503; before the server counts as silent (six
seconds, beyond claims_api's statement_timeout); and before one that waits at all is given up."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0
"""Seconds between two tries to connect."""
NOTED_FOR = 30.0
"""Seconds that readiness speaks of a full disk after the last statement that failed by it."""
LIFETIME = 3600.0
"""Seconds after which a connection is made anew: what a backend caches of plans and catalog only grows."""


QUICK_AT_ONCE = 4
"""Calls: more at a time than there are cores only take turns at them, and the API's own process waits longest for its turn."""
LEFT_TO_USERS, LEFT_TO_ORGANIZATIONS = 2, 1
"""Places for writes that one user, and one organization, leave to others, where there are twice as many at least."""
WAITING = 256
"""Calls of one user or address that may wait in a lane."""
DEAR, DEARER, KEPT = 0.01, 0.025, 1000
"""Seconds on average: from which on a user's statement is remembered, and from which on it is dear; and how many are remembered."""
Lane = Literal["quick", "dear", "slow", "heavy"]


class _Lane:
    """Which calls wait for a connection, and how many have one: no more than at_once."""

    def __init__(self, at_once: int) -> None:
        self.waiting: FairQueue[Call] = FairQueue()
        self.at_once = max(1, at_once)
        self.busy = 0
        self.busy_by: Counter[Hashable] = Counter()
        """Of busy, by organization and by user."""

    def count(self, key: Key, by: int) -> None:
        """A call of the key's has a connection, or has none any more."""
        self.busy += by
        for name in (key, key[0]):
            self.busy_by[name] += by
            if not self.busy_by[name]:
                del self.busy_by[name]

    def leaves_room(self, key: Key) -> bool:
        """Whether another call of the key's would leave some of the lane to other users, and to other organizations."""
        if self.at_once < 2 * LEFT_TO_USERS or is_anonymous(key):
            return True
        return (
            self.busy_by[key] < self.at_once - LEFT_TO_USERS
            and self.busy_by[key[0]] < self.at_once - LEFT_TO_ORGANIZATIONS
        )

    @property
    def wants(self) -> bool:
        """Whether there is a call whose turn it would be."""
        return self.busy < self.at_once and len(self.waiting) > 0


class Pool:
    """Up to size connections as one login. A call takes any that is free, else waits its turn; the last one used is taken first.

    Calls wait in lanes, so that what is slow never has all connections (a quarter is left to what is quick): quick ones; dear ones, which
    took their user long on average or take long right now; slow ones, which may wait for others (writes); and heavy ones, which keep a
    core of the server busy for as long as a hundred quick ones. In each lane organizations and users take turns.
    resets: nothing that a call leaves in its session reaches the next one; for a login whose statements may be injected into.
    """

    def __init__(self, url: str, *, size: int, name: str, prepares: bool = True, resets: bool = True) -> None:
        self._url, self._size, self._name, self._prepares, self._resets = url, size, name, prepares, resets
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        heavy, dear = max(1, size // 16), max(1, size // 8)
        self._quick, self._dear = _Lane(min(QUICK_AT_ONCE, size)), _Lane(dear)
        self._slow, self._heavy = _Lane(size * 3 // 4 - heavy - dear), _Lane(heavy)
        self._lanes = {"quick": self._quick, "dear": self._dear, "slow": self._slow, "heavy": self._heavy}
        self._costs: dict[tuple[Key, str], float] = {}
        # Of slow calls many may wait for one lock, for seconds.
        self._may = {self._quick: self._may_be_quick, self._slow: self._slow.leaves_room}
        self._demoted: Counter[Hashable] = Counter()
        """Quick calls that take long right now, by organization and by user."""
        self._used_by: dict[Connection, tuple[_Lane, Key]] = {}
        self._under_way: set[Call] = set()
        self._looking = False
        self._first = asyncio.Event()
        self._growing: asyncio.Task[None] | None = None
        self._closed = False
        self._refused = ""
        self._moved_at = 0.0
        """When a call last ended."""
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
        for lane in self._lanes.values():
            while found := lane.waiting.pop():
                found[1].fail(Unavailable())
        for connection in list(self._all):
            connection.close()

    async def fetch(
        self, statements: Statements, gone: Gone | None = None, *, lane: Lane = "quick", key: Key = ANONYMOUS
    ) -> list[Rows]:
        """Runs the statements as one transaction in one round trip; the rows of each. key: whose call it is.

        Raises what the first that failed raised; Unavailable where the database is away or takes too long; RateLimited where it has waited
        for ten seconds for others of the same user.
        """
        call = Call(statements, gone, key=key)
        self.take_on(call, lane)
        return await self.answer(call)

    @asynccontextmanager
    async def transaction(
        self, gone: Gone | None = None, *, lane: Lane = "slow", key: Key = ANONYMOUS
    ) -> AsyncIterator["Transaction"]:
        """Several round trips that are one transaction; what is raised inside undoes all of them."""
        transaction = Transaction(self, gone, lane, key)
        try:
            yield transaction
        finally:
            transaction.leave()

    def take_on(self, call: Call, name: Lane) -> None:
        """It gets a connection when it is its turn. Raises RateLimited where too many of the same user or address wait already."""
        call.learns = name == "quick" and not is_anonymous(call.key)
        dear = call.learns and self._costs and self._costs.get((call.key, call.statements[-1][0]), 0.0) >= DEARER
        lane = self._dear if dear else self._lanes[name]
        if lane.waiting.waiting(call.key) >= WAITING:
            raise RateLimited(headers={"Retry-After": "1"}) if call.key != ANONYMOUS else Unavailable
        call.lane = lane
        lane.waiting.push(call.key, call)
        self._match()

    def _learn(self, call: Call, took: float) -> None:
        """How long the call's statement takes its user on average, as far as it is worth remembering."""
        about = (call.key, call.statements[-1][0])
        known = self._costs.pop(about, 0.0)
        if (cost := known + (took - known) / 4) >= DEAR:
            if len(self._costs) >= KEPT:
                del self._costs[next(iter(self._costs))]
            self._costs[about] = cost

    async def answer(self, call: Call) -> list[Rows]:
        """The call's rows. Where nobody waits for them any more the server is told."""
        self._under_way.add(call)
        if not self._looking:
            self._look_later()
        try:
            rows = await call.answer
            if call.learns and (self._costs or time.monotonic() - call.sent_at >= DEAR):
                self._learn(call, time.monotonic() - call.sent_at)
            return rows
        except psycopg.errors.DiskFull:
            self._disk_full_at = time.monotonic()
            raise
        except asyncio.CancelledError:
            if call.connection:
                call.connection.cancel(call)
            raise
        finally:
            self._under_way.discard(call)
            if call.connection is None:
                call.lane.waiting.drop(call.key, call)

    def _match(self) -> None:
        """Calls whose turn it is get what is free."""
        for lane in self._lanes.values():
            may = self._may.get(lane) if lane is not self._quick or self._demoted else None
            while self._free and lane.busy < lane.at_once and (found := lane.waiting.pop(may)):
                if not found[1].answer.done():
                    self._hand_over(self._free.pop(), found[1], lane)
        self._grow()

    def _may_be_quick(self, key: Key) -> bool:
        """Not where many of the user's or the organization's calls turned out to be slow and still run: they would take all connections."""
        return is_anonymous(key) or max(self._demoted[key], self._demoted[key[0]] // 2) < self._dear.at_once

    def _demote(self, connection: Connection, call: Call) -> None:
        """It is slow: the place of a quick call is free for another one."""
        self._count(connection, self._dear, call.key)
        self._learn(call, 4 * DEARER)
        names = () if is_anonymous(call.key) else (call.key, call.key[0])
        self._demoted.update(names)

        def ended(_: object) -> None:
            self._demoted.subtract(names)
            self._demoted += Counter()  # only what is more than none
            self._match()

        call.answer.add_done_callback(ended)
        self._match()

    def _hand_over(self, connection: Connection, call: Call, lane: _Lane) -> None:
        self._count(connection, lane, call.key)
        call.looks, call.sent_at = 0, time.monotonic()
        try:
            connection.send(call)
        except Exception as error:  # a value that can't be sent is its caller's affair alone
            call.fail(error)
            self._count(connection, None)
            self._free.append(connection)

    def _count(self, connection: Connection, lane: _Lane | None, key: Key = ANONYMOUS) -> None:
        """The connection is used by that lane now, and by no other any more."""
        if before := self._used_by.pop(connection, None):
            before[0].count(before[1], -1)
        if lane:
            self._used_by[connection] = lane, key
            lane.count(key, 1)

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
        """At a call that takes its time: does its client still wait, and is there still hope?"""
        call.looks += 1
        if call.looks < SLOW_AFTER or call.answer.done():
            return
        if call.connection is None:
            self._look_at_waiting(call)
        elif call.looks >= ANSWERED_WITHIN:
            call.fail(Unavailable())
            call.connection.cancel(call)
        if call.connection and self._used_by.get(call.connection, (None, None))[0] is self._quick:
            self._demote(call.connection, call)
        if call.gone and not call.answer.done():
            watch = asyncio.ensure_future(self._watch(call, call.gone))
            call.gone = None
            call.answer.add_done_callback(lambda _: watch.cancel())

    def _look_at_waiting(self, call: Call) -> None:
        """Where no call ends the database is away, unless it waits for others of its user. Else its turn may come, but not for ever."""
        may = self._may.get(call.lane)
        waits_for_own = call.lane is self._heavy or (may and not may(call.key))
        stands = time.monotonic() - self._moved_at > (CONNECTED_WITHIN - 1) * LOOKED_AT_EVERY
        if call.looks >= CONNECTED_WITHIN and (not self._all or (stands and not waits_for_own)):
            call.fail(self._away())
        elif call.looks >= WAITED_AT_MOST:
            others = any(one.key == call.key and one is not call for one in self._under_way)
            call.fail(RateLimited(headers={"Retry-After": "1"}) if others and call.key != ANONYMOUS else self._away())

    async def _watch(self, call: Call, gone: Gone) -> None:
        await gone()
        call.fail(Unavailable())
        if call.connection:
            call.connection.cancel(call)

    def give_back(self, connection: Connection) -> None:
        """It can take the next call, unless something of the last caller is left on it."""
        self._moved_at = time.monotonic()
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
        return len(self._all) < QUICK_AT_ONCE or any(lane.wants for lane in self._lanes.values())

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
        self._growing, self._refused = None, ""


class Transaction:
    """One explicit transaction on one connection, as Pool.transaction gives it."""

    def __init__(self, pool: Pool, gone: Gone | None, lane: Lane, key: Key) -> None:
        self._pool, self._gone, self._lane, self._key = pool, gone, lane, key
        self._connection: Connection | None = None

    async def run(self, statements: Statements) -> list[Rows]:
        """The rows of each, in one round trip."""
        if self._connection:
            call = Call(statements, self._gone, held=True)
            self._connection.send(call)
            return await self._pool.answer(call)
        call = Call([("begin", {}), *statements], self._gone, held=True, key=self._key)
        self._pool.take_on(call, self._lane)
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
"""The meaning of PostgreSQL's words, in English as its default is: psycopg gives an error before the connection stands no SQLSTATE."""


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
