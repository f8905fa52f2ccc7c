"""The connection pool: admission of calls, timeouts, cancellation, and reconnection."""

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
from app.errors import NoConnection, Overloaded, TooManyAtOnce, TooSlow, Unavailable

TICK_S = 0.25
"""Interval of the timeout check. A call may get its first tick at once, so only later ticks measure time."""
SLOW_AFTER_TICKS, CONNECT_TICKS, ANSWER_TICKS, MAX_WAIT_TICKS = 2, 3, 25, 40
"""Number of ticks after which a call counts as slow, and after which it fails.

CONNECT_TICKS: a call without a connection fails with 503 if no other call ends. ANSWER_TICKS: a call without a result is cancelled
(after 6 s, longer than claims_api's statement_timeout). MAX_WAIT_TICKS: any call without a connection fails.
"""
INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.05, 1.0
"""The shortest and the longest wait between two attempts to connect."""
DISK_FULL_REPORTED_S = 30.0
"""How long readiness reports a full disk after the last statement that failed because of it."""
CONNECTION_LIFETIME_S = 3600.0
"""The age at which a connection is replaced, because its backend's plan and catalog caches only grow."""


class Pool:
    """Up to `size` connections of one login. A call gets the most recently used free connection, or waits for one.

    Each call has a class of service, so that slow calls never use all connections. A quarter is reserved for quick calls.

    - quick: short reads.
    - expensive: quick calls whose statement takes long for this user, on average or right now.
    - slow: calls that may wait for locks (writes).
    - heavy: calls that keep a core of the server busy as long as a hundred quick calls.

    In each class, organizations and users are served round robin. resets: whether the session is reset between calls, which a login
    needs if SQL may be injected into its statements.
    """

    def __init__(self, url: str, *, size: int, name: str, prepares: bool = True, resets: bool = True) -> None:
        self._url, self._size, self._name, self._prepares, self._resets = url, size, name, prepares, resets
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        heavy, expensive = max(1, size // 16), max(1, size // 8)
        self._quick, self._expensive = Admission(min(MAX_QUICK_CALLS, size)), Admission(expensive)
        self._slow, self._heavy = Admission(size * 3 // 4 - heavy - expensive), Admission(heavy)
        self._classes = {"quick": self._quick, "expensive": self._expensive, "slow": self._slow, "heavy": self._heavy}
        self._costs = Costs()
        # Limits for one user and organization. Many slow calls may wait for one lock for seconds.
        self._may = {self._quick: self._may_run_quick, self._slow: self._slow.leaves_capacity}
        self._demoted: Counter[Hashable] = Counter()
        """Running quick calls that were reclassified as expensive, by organization and by user."""
        self._used_by: dict[Connection, tuple[Admission, Key]] = {}
        self._pending: set[Call] = set()
        self._ticking = False
        self._first = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None
        self._closed = False
        self._connection_problem = ""
        self._released_at = 0.0
        """The time at which a call last ended."""
        self._disk_full_at = -math.inf

    async def open(self) -> None:
        """Opens the pool. Raises Unavailable if no connection succeeds within ten seconds."""
        self._fill()
        try:
            async with asyncio.timeout(10):
                await self._first.wait()
        except TimeoutError:
            await self.close()
            raise self._unavailable() from None

    @property
    def problem(self) -> str:
        """Why the last attempt to connect failed, or that the disk was full recently; empty if there is no known problem."""
        full = time.monotonic() - self._disk_full_at < DISK_FULL_REPORTED_S
        return self._connection_problem or ("has no space left on its disk" if full else "")

    def _unavailable(self) -> Unavailable:
        return NoConnection() if self._connection_problem == TOO_MANY else Unavailable()

    async def close(self) -> None:
        """Closes all connections. Waiting calls fail."""
        self._closed = True
        if self._filling:
            self._filling.cancel()
        for admission in self._classes.values():
            while entry := admission.queue.pop():
                entry[1].fail(Unavailable())
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
        """Runs the statements as one transaction in one round trip; returns the rows of each. key: the organization and user.

        Raises the error of the first statement that failed, and Unavailable if the database is unreachable, too slow or busy. Raises
        TooManyAtOnce if the call has waited ten seconds and the same user has other calls.
        """
        call = Call(statements, disconnected, key=key)
        self.submit(call, service_class)
        return await self.wait(call)

    @asynccontextmanager
    async def transaction(
        self, disconnected: Disconnected | None = None, *, service_class: ServiceClass = "slow", key: Key = ANONYMOUS
    ) -> AsyncIterator["Transaction"]:
        """One transaction over several round trips. An exception inside rolls it back."""
        transaction = Transaction(self, disconnected, service_class, key)
        try:
            yield transaction
        finally:
            transaction.close()

    def submit(self, call: Call, name: ServiceClass) -> None:
        """Queues the call for a connection. Raises TooManyAtOnce if too many calls of the same user or address already wait."""
        call.records_cost = name == "quick" and not is_anonymous(call.key)
        is_expensive = call.records_cost and self._costs.is_expensive(call)
        admission = self._expensive if is_expensive else self._classes[name]
        if admission.queue.count(call.key) >= MAX_WAITING_CALLS:
            raise TooManyAtOnce(headers={"Retry-After": "1"}) if call.key != ANONYMOUS else Overloaded()
        call.admission = admission
        admission.queue.push(call.key, call)
        self._dispatch()

    async def wait(self, call: Call) -> list[Rows]:
        """Waits for the call and returns its rows. If the waiting task is cancelled, the call is cancelled on the server."""
        self._pending.add(call)
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
            self._pending.discard(call)
            if call.connection is None:
                call.admission.queue.drop(call.key, call)

    def _dispatch(self) -> None:
        """Assigns free connections to waiting calls."""
        for admission in self._classes.values():
            may = self._may.get(admission) if admission is not self._quick or self._demoted else None
            while self._free and admission.running < admission.limit and (entry := admission.queue.pop(may)):
                if not entry[1].result.done():
                    self._assign(self._free.pop(), entry[1], admission)
        self._fill()

    def _may_run_quick(self, key: Key) -> bool:
        """False while many quick calls of the user or the organization were demoted and still run: more could use all connections."""
        return is_anonymous(key) or max(self._demoted[key], self._demoted[key[0]] // 2) < self._expensive.limit

    def _demote(self, connection: Connection, call: Call) -> None:
        """Moves a slow running call to the class "expensive", so that another quick call may run."""
        self._set_class(connection, self._expensive, call.key)
        self._costs.add(call, 4 * EXPENSIVE_COST_S)
        names = () if is_anonymous(call.key) else (call.key, call.key[0])
        self._demoted.update(names)

        def ended(_: object) -> None:
            self._demoted.subtract(names)
            self._demoted += Counter()  # removes counts of zero
            self._dispatch()

        call.result.add_done_callback(ended)
        self._dispatch()

    def _assign(self, connection: Connection, call: Call, admission: Admission) -> None:
        self._set_class(connection, admission, call.key)
        call.ticks, call.sent_at = 0, time.monotonic()
        try:
            connection.send(call)
        except Exception as error:  # a value that cannot be sent fails only its own call
            call.fail(error)
            self._set_class(connection, None)
            self._free.append(connection)

    def _set_class(self, connection: Connection, admission: Admission | None, key: Key = ANONYMOUS) -> None:
        """Counts the connection in the class instead of its previous one; None: in no class."""
        if previous := self._used_by.pop(connection, None):
            previous[0].count(previous[1], -1)
        if admission:
            self._used_by[connection] = admission, key
            admission.count(key, 1)

    def _schedule_tick(self) -> None:
        self._ticking = True
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """Checks all pending calls. One timer serves all calls, because one for each was 2% of a short request."""
        self._ticking = False
        for call in tuple(self._pending):
            self._check_timeouts(call)
        if self._pending:
            self._schedule_tick()

    def _check_timeouts(self, call: Call) -> None:
        """Checks the timeouts of a call; demotes a slow one and starts to watch whether its client disconnects."""
        call.ticks += 1
        if call.ticks < SLOW_AFTER_TICKS or call.result.done():
            return
        if call.connection is None:
            self._check_waiting(call)
        elif call.ticks >= ANSWER_TICKS:
            call.fail(TooSlow())
            call.connection.cancel(call)
        if call.connection and self._used_by.get(call.connection, (None, None))[0] is self._quick:
            self._demote(call.connection, call)
        if call.disconnected and not call.result.done():
            watch = asyncio.ensure_future(self._watch(call, call.disconnected))
            call.disconnected = None
            call.result.add_done_callback(lambda _: watch.cancel())

    def _check_waiting(self, call: Call) -> None:
        """Fails a call that has waited too long for a connection.

        If no call has ended lately, the database counts as unreachable. A call that waits for others of its own user is excepted,
        because those may be slow.
        """
        may = self._may.get(call.admission)
        waits_for_own = call.admission is self._heavy or (may and not may(call.key))
        stalled = time.monotonic() - self._released_at > (CONNECT_TICKS - 1) * TICK_S
        if call.ticks >= CONNECT_TICKS and (not self._all or (stalled and not waits_for_own)):
            call.fail(self._unavailable())
        elif call.ticks >= MAX_WAIT_TICKS:
            if call.key != ANONYMOUS and any(other.key == call.key and other is not call for other in self._pending):
                call.fail(TooManyAtOnce(headers={"Retry-After": "1"}))
            else:
                call.fail(self._unavailable() if stalled or self._connection_problem else Overloaded())

    async def _watch(self, call: Call, disconnected: Disconnected) -> None:
        await disconnected()
        call.fail(Unavailable())
        if call.connection:
            call.connection.cancel(call)

    def release(self, connection: Connection) -> None:
        """Makes the connection free for the next call. Closes it if it is too old or has an open transaction."""
        self._released_at = time.monotonic()
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
        return len(self._all) < MAX_QUICK_CALLS or any(
            admission.has_capacity_and_calls for admission in self._classes.values()
        )

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
                self._connection_problem = connection_problem(error)
                await asyncio.sleep(backoff.next_wait_s() * random.uniform(0.5, 1))  # noqa: S311
                continue
            backoff.reset()
            self._connection_problem = ""
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
        self._filling, self._connection_problem = None, ""


class Transaction:
    """One explicit transaction on one connection, created by Pool.transaction."""

    def __init__(self, pool: Pool, disconnected: Disconnected | None, service_class: ServiceClass, key: Key) -> None:
        self._pool, self._disconnected, self._class, self._key = pool, disconnected, service_class, key
        self._connection: Connection | None = None

    async def run(self, statements: Statements) -> list[Rows]:
        """Runs the statements in one round trip; returns the rows of each."""
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
        """Runs the last statements and commits, in one round trip. The connection is released when the commit has ended."""
        connection, self._connection = self._connection, None
        assert connection
        call = Call([*statements, ("commit", {})], self._disconnected)
        connection.send(call)
        await self._pool.wait(call)

    def close(self) -> None:
        """Rolls back an open transaction, which releases the connection. While a call runs, its end or cancellation does that."""
        if not self._connection or self._connection.is_busy:
            return None
        rollback = Call([("rollback", {})])
        rollback.result.add_done_callback(lambda result: result.exception())
        return self._connection.send(rollback)


async def _backend(own: psycopg.AsyncConnection[Any]) -> int:
    """The process id of the server process; 0 behind a pooler, where each transaction may use another server process."""
    cursor = await own.execute("select pg_backend_pid()")
    row = await cursor.fetchone()
    return own.info.backend_pid if row == (own.info.backend_pid,) else 0


TOO_MANY = "takes no more connections"
REFUSALS = {
    r"too many (clients|connections)|connection slots": TOO_MANY,
    r"password authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist": "rejects this login",
    r"database .* does not exist": "does not exist on this server",
    r"starting up|shutting down|recovery mode": "is starting or stopping",
}
"""Problems by patterns of PostgreSQL's English messages. psycopg's errors before a connection is established have no SQLSTATE."""


def connection_problem(error: psycopg.Error) -> str:
    """The reason for a failed connection, without names and addresses."""
    return next(
        (problem for pattern, problem in REFUSALS.items() if re.search(pattern, str(error))), "can't be reached"
    )


def api_pool(settings: Settings) -> Pool:
    """The API's pool, not open yet. Its application_name contains the kid with which the process signs, for `make schema`."""
    assert settings.api_database_url
    prepares = settings.prepared_statements == "on"
    kid = next(iter(settings.token_keys), "")
    return Pool(settings.api_database_url, size=settings.pool_size, name=f"claims-api {kid}", prepares=prepares)
