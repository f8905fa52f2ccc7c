"""The pool of connections: who gets one and when, how long anybody waits, and what happens when the database is away."""

import asyncio
import math
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from app.backoff import Backoff
from app.config import Settings
from app.database.admission import (
    EXPENSIVE_COST_S,
    MAX_QUICK_CALLS,
    MAX_WAITING_CALLS,
    REMEMBERED_COST_S,
    Admission,
    Costs,
    ServiceClass,
)
from app.database.connection import ANONYMOUS, Call, Connection, Disconnected, Rows, Statements
from app.database.fair_queue import Key, is_anonymous
from app.errors import NoConnection, RateLimited, Unavailable

TICK_S = 0.25
"""Interval of the timeout check. The first check of a call may come at once, so the second is the first that counts."""
SLOW_AFTER_TICKS, CONNECT_TICKS, ANSWER_TICKS, MAX_WAIT_TICKS = 2, 3, 25, 40
"""Ticks before a call counts as slow; before a waiting call fails with 503 while no other ends; before the connection of a call without an
answer is closed (6 s, longer than claims_api's statement_timeout); and before any waiting call fails."""
INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.05, 1.0
"""The shortest and the longest wait between two tries to connect."""
DISK_FULL_REPORTED_S = 30.0
"""How long readiness reports a full disk after the last statement that failed because of it."""
CONNECTION_LIFETIME_S = 3600.0
"""A connection older than this is replaced, because the plan and catalog caches of its backend only grow."""


class Pool:
    """Up to size connections as one login. A call takes any that is free, else waits its turn; the last one used is taken first.

    Calls belong to classes of service, so that slow calls never use all connections (a quarter is left to quick ones): quick; expensive, which
    took their user long on average or take long right now; slow ones, which may wait for others (writes); and heavy ones, which keep a
    core of the server busy for as long as a hundred quick ones. In each class, organizations and users are served round robin.
    resets: nothing that a call leaves in its session reaches the next one; for a login whose statements may be injected into.
    """

    def __init__(self, url: str, *, size: int, name: str, prepares: bool = True, resets: bool = True) -> None:
        self._url, self._size, self._name, self._prepares, self._resets = url, size, name, prepares, resets
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        heavy, is_expensive = max(1, size // 16), max(1, size // 8)
        self._quick, self._expensive = Admission(min(MAX_QUICK_CALLS, size)), Admission(is_expensive)
        self._slow, self._heavy = Admission(size * 3 // 4 - heavy - is_expensive), Admission(heavy)
        self._classes = {"quick": self._quick, "expensive": self._expensive, "slow": self._slow, "heavy": self._heavy}
        self._costs = Costs()
        # Of slow calls many may wait for one lock, for seconds.
        self._may = {self._quick: self._may_run_quick, self._slow: self._slow.leaves_capacity}
        self._demoted: Counter[Hashable] = Counter()
        """Quick calls that take long right now, by organization and by user."""
        self._used_by: dict[Connection, tuple[Admission, Key]] = {}
        self._under_way: set[Call] = set()
        self._ticking = False
        self._first = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None
        self._closed = False
        self._refused = ""
        self._moved_at = 0.0
        """When a call last ended."""
        self._disk_full_at = -math.inf

    async def open(self) -> None:
        """Raises Unavailable where no connection can be had within ten seconds."""
        self._fill()
        try:
            async with asyncio.timeout(10):
                await self._first.wait()
        except TimeoutError:
            await self.close()
            raise self._unavailable() from None

    @property
    def problem(self) -> str:
        """Why no connection could be had at the last try, or that the disk was full lately; empty where neither is known."""
        full = time.monotonic() - self._disk_full_at < DISK_FULL_REPORTED_S
        return self._refused or ("has no space left on its disk" if full else "")

    def _unavailable(self) -> Unavailable:
        return NoConnection() if self._refused == TOO_MANY else Unavailable()

    async def close(self) -> None:
        """Whoever still waits is told."""
        self._closed = True
        if self._filling:
            self._filling.cancel()
        for admission in self._classes.values():
            while found := admission.queue.pop():
                found[1].fail(Unavailable())
        for connection in list(self._all):
            connection.close()

    async def fetch(
        self,
        statements: Statements,
        disconnected: Disconnected | None = None,
        *,
        service_class: ServiceClass = "quick",
        key: Key = ANONYMOUS,
    ) -> list[Rows]:
        """Runs the statements as one transaction in one round trip; the rows of each. key: whose call it is.

        Raises what the first that failed raised; Unavailable where the database is away or takes too long; RateLimited where it has waited
        for ten seconds for others of the same user.
        """
        call = Call(statements, disconnected, key=key)
        self.submit(call, service_class)
        return await self.wait(call)

    @asynccontextmanager
    async def transaction(
        self, disconnected: Disconnected | None = None, *, service_class: ServiceClass = "slow", key: Key = ANONYMOUS
    ) -> AsyncIterator["Transaction"]:
        """Several round trips that are one transaction; what is raised inside undoes all of them."""
        transaction = Transaction(self, disconnected, service_class, key)
        try:
            yield transaction
        finally:
            transaction.close()

    def submit(self, call: Call, name: ServiceClass) -> None:
        """It gets a connection when it is its turn. Raises RateLimited where too many of the same user or address wait already."""
        call.records_cost = name == "quick" and not is_anonymous(call.key)
        is_expensive = call.records_cost and self._costs.is_expensive(call)
        admission = self._expensive if is_expensive else self._classes[name]
        if admission.queue.count(call.key) >= MAX_WAITING_CALLS:
            raise RateLimited(headers={"Retry-After": "1"}) if call.key != ANONYMOUS else Unavailable
        call.admission = admission
        admission.queue.push(call.key, call)
        self._dispatch()

    async def wait(self, call: Call) -> list[Rows]:
        """The call's rows. Where nobody waits for them any more the server is told."""
        self._under_way.add(call)
        if not self._ticking:
            self._schedule_tick()
        try:
            rows = await call.result
            if call.records_cost and (self._costs or time.monotonic() - call.sent_at >= REMEMBERED_COST_S):
                self._costs.add(call, time.monotonic() - call.sent_at)
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
                call.admission.queue.drop(call.key, call)

    def _dispatch(self) -> None:
        """Calls whose turn it is get what is free."""
        for admission in self._classes.values():
            may = self._may.get(admission) if admission is not self._quick or self._demoted else None
            while self._free and admission.running < admission.limit and (found := admission.queue.pop(may)):
                if not found[1].result.done():
                    self._assign(self._free.pop(), found[1], admission)
        self._fill()

    def _may_run_quick(self, key: Key) -> bool:
        """Not where many of the user's or the organization's calls turned out to be slow and still run: they would take all connections."""
        return is_anonymous(key) or max(self._demoted[key], self._demoted[key[0]] // 2) < self._expensive.limit

    def _demote(self, connection: Connection, call: Call) -> None:
        """It is slow: the place of a quick call is free for another one."""
        self._set_class(connection, self._expensive, call.key)
        self._costs.add(call, 4 * EXPENSIVE_COST_S)
        names = () if is_anonymous(call.key) else (call.key, call.key[0])
        self._demoted.update(names)

        def ended(_: object) -> None:
            self._demoted.subtract(names)
            self._demoted += Counter()  # only what is more than none
            self._dispatch()

        call.result.add_done_callback(ended)
        self._dispatch()

    def _assign(self, connection: Connection, call: Call, admission: Admission) -> None:
        self._set_class(connection, admission, call.key)
        call.ticks, call.sent_at = 0, time.monotonic()
        try:
            connection.send(call)
        except Exception as error:  # a value that can't be sent is its caller's affair alone
            call.fail(error)
            self._set_class(connection, None)
            self._free.append(connection)

    def _set_class(self, connection: Connection, admission: Admission | None, key: Key = ANONYMOUS) -> None:
        """Counts the connection for the class, and no longer for the one before; None: for no class."""
        if before := self._used_by.pop(connection, None):
            before[0].count(before[1], -1)
        if admission:
            self._used_by[connection] = admission, key
            admission.count(key, 1)

    def _schedule_tick(self) -> None:
        self._ticking = True
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """One timer for all: one for each call was 2% of a short request."""
        self._ticking = False
        for call in tuple(self._under_way):
            self._check_timeouts(call)
        if self._under_way:
            self._schedule_tick()

    def _check_timeouts(self, call: Call) -> None:
        """At a call that takes its time: does its client still wait, and is there still hope?"""
        call.ticks += 1
        if call.ticks < SLOW_AFTER_TICKS or call.result.done():
            return
        if call.connection is None:
            self._check_waiting(call)
        elif call.ticks >= ANSWER_TICKS:
            call.fail(Unavailable())
            call.connection.cancel(call)
        if call.connection and self._used_by.get(call.connection, (None, None))[0] is self._quick:
            self._demote(call.connection, call)
        if call.disconnected and not call.result.done():
            watch = asyncio.ensure_future(self._watch(call, call.disconnected))
            call.disconnected = None
            call.result.add_done_callback(lambda _: watch.cancel())

    def _check_waiting(self, call: Call) -> None:
        """Where no call ends the database is away, unless it waits for others of its user. Else its turn may come, but not for ever."""
        may = self._may.get(call.admission)
        waits_for_own = call.admission is self._heavy or (may and not may(call.key))
        stands = time.monotonic() - self._moved_at > (CONNECT_TICKS - 1) * TICK_S
        if call.ticks >= CONNECT_TICKS and (not self._all or (stands and not waits_for_own)):
            call.fail(self._unavailable())
        elif call.ticks >= MAX_WAIT_TICKS:
            others = any(one.key == call.key and one is not call for one in self._under_way)
            call.fail(
                RateLimited(headers={"Retry-After": "1"}) if others and call.key != ANONYMOUS else self._unavailable()
            )

    async def _watch(self, call: Call, disconnected: Disconnected) -> None:
        await disconnected()
        call.fail(Unavailable())
        if call.connection:
            call.connection.cancel(call)

    def release(self, connection: Connection) -> None:
        """It can take the next call, unless something of the last caller is left on it."""
        self._moved_at = time.monotonic()
        self._set_class(connection, None)
        if not connection.is_idle or asyncio.get_running_loop().time() - connection.opened_at > CONNECTION_LIFETIME_S:
            connection.close()
        else:
            self._free.append(connection)
            self._dispatch()

    def _discard(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._set_class(connection, None)
        if connection in self._free:
            self._free.remove(connection)
        self._fill()

    def _fill(self) -> None:
        if self._filling is None and self._needs_more():
            self._filling = asyncio.ensure_future(self._connect())

    def _needs_more(self) -> bool:
        if self._closed or len(self._all) >= self._size:
            return False
        return len(self._all) < MAX_QUICK_CALLS or any(one.has_capacity_and_calls for one in self._classes.values())

    async def _connect(self) -> None:
        """Opens connections one at a time until the pool has enough. After a failure it waits, with exponential backoff and jitter."""
        backoff = Backoff(INITIAL_BACKOFF_S, MAX_BACKOFF_S)
        while self._needs_more():
            try:
                own = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name=self._name, connect_timeout=2
                )
                backend = await _backend(own)
            except psycopg.Error as error:
                self._refused = connection_problem(error)
                await asyncio.sleep(backoff.next_wait_s() * random.uniform(0.5, 1))  # noqa: S311
                continue
            backoff.reset()
            self._refused = ""
            connection = Connection(
                own,
                prepares=self._prepares,
                resets=self._resets,
                backend=backend,
                free=self.release,
                lost=self._discard,
            )
            self._all.add(connection)
            self._first.set()
            self.release(connection)
        self._filling, self._refused = None, ""


class Transaction:
    """One explicit transaction on one connection, as Pool.transaction gives it."""

    def __init__(self, pool: Pool, disconnected: Disconnected | None, service_class: ServiceClass, key: Key) -> None:
        self._pool, self._disconnected, self._class, self._key = pool, disconnected, service_class, key
        self._connection: Connection | None = None

    async def run(self, statements: Statements) -> list[Rows]:
        """The rows of each, in one round trip."""
        if self._connection:
            call = Call(statements, self._disconnected, keep_connection=True)
            self._connection.send(call)
            return await self._pool.wait(call)
        call = Call([("begin", {}), *statements], self._disconnected, keep_connection=True, key=self._key)
        self._pool.submit(call, self._class)
        try:
            return (await self._pool.wait(call))[1:]
        finally:
            self._connection = call.connection

    async def commit(self, statements: Statements) -> None:
        """Runs the last statements and ends the transaction, in one round trip; the connection goes back by itself."""
        connection, self._connection = self._connection, None
        assert connection
        call = Call([*statements, ("commit", {})], self._disconnected)
        connection.send(call)
        await self._pool.wait(call)

    def close(self) -> None:
        """Gives the connection back; what was not committed is undone. One that is busy comes back by itself, or not at all."""
        if not self._connection or self._connection.is_busy:
            return None
        undo = Call([("rollback", {})])
        undo.result.add_done_callback(lambda result: result.exception())
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


def connection_problem(error: psycopg.Error) -> str:
    """Why no connection could be had, in words without names or addresses."""
    return next((words for said, words in REFUSALS.items() if re.search(said, str(error))), "can't be reached")


def api_pool(settings: Settings) -> Pool:
    """The API's, not open yet. Its name tells `make schema` which key the process signs with."""
    assert settings.api_database_url
    prepares = settings.prepared_statements == "on"
    kid = next(iter(settings.token_keys), "")
    return Pool(settings.api_database_url, size=settings.pool_size, name=f"claims-api {kid}", prepares=prepares)
