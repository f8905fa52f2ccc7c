"""A connection to PostgreSQL as libpq has it: what is sent together comes back together, in one round trip.

psycopg opens it, converts values and rows, and names errors. Its own way of waiting watches the socket anew at every turn, which is
half of what a short statement costs; here one reader stays for the connection's whole life (tests/load/RESULTS.md).
"""

import asyncio
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.string import ByteaBinaryLoader

from app.database.fair_queue import Key

Rows = list[tuple[Any, ...]]
Statements = Sequence[tuple[str, Mapping[str, Any]]]
Disconnected = Callable[[], Awaitable[None]]
"""Comes back when whoever asked does not wait for the answer any more."""

ANONYMOUS: Key = ("", "")
"""The key of calls that belong to no user and no address."""
MAX_PREPARED = 200
"""Statements kept prepared on a connection; beyond it the one that was not used for longest goes."""
RESET = "select context.reset_session()"
"""Ends what a call may have left in the session (sql/platform/context.sql)."""
CANCEL_INTERVAL_S, MAX_CANCELS = 1.0, 30
"""Seconds between two requests to the server to end a call, and how many before the connection is given up."""
STALE_PLAN_STATES = ("0A000", "26000")
"""The plan no longer fits the table, or the statement is not there: the connection is made anew."""
COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
BINARY = pq.Format.BINARY
"""How rows come back: psycopg has loaders in C for it, for JSON as bytes, too, which as text would be a call of Python's each."""
_NAMED = re.compile(r"%\((\w+)\)s|%%")


@lru_cache(maxsize=4000)
def to_positional(text: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement with psycopg's %(name)s as PostgreSQL takes it, and the names by number."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if not (name := match.group(1)):
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _NAMED.sub(number, text).encode(), tuple(names)


class Call:
    """Statements for one round trip, and the rows of each once they came back."""

    __slots__ = (
        "admission", "connection", "disconnected", "keep_connection", "key", "records_cost", "result", "sent_at", "statements",
        "ticks",
    )  # fmt: skip

    def __init__(
        self,
        statements: Statements,
        disconnected: Disconnected | None = None,
        *,
        keep_connection: bool = False,
        key: Key = ANONYMOUS,
    ) -> None:
        self.statements = statements
        self.disconnected = disconnected
        self.key = key
        """The organization and user, or the address, that the call is for."""
        self.result: asyncio.Future[list[Rows]] = asyncio.get_running_loop().create_future()
        self.keep_connection = keep_connection
        """Whether the connection stays the caller's afterwards, for what belongs to the same transaction."""
        self.connection: Connection | None = None
        self.admission: Any = None
        """Where it waits, or waited, in its pool."""
        self.records_cost = False
        """Whether its time tells how long its statement takes."""
        self.sent_at = 0.0
        self.ticks = 0
        """Looks of the pool since it began to wait, and since it was sent."""

    def fail(self, error: Exception) -> None:
        """Whoever waits for it hears of it, unless it has heard already."""
        if not self.result.done():
            self.result.set_exception(error)


class Connection:
    """One call at a time. free and gone are called when it can take the next, and when it is no more.

    resets: nothing of a call's session reaches the next; backend: the process id of the server's end, 0 where a pooler hides it.
    """

    def __init__(
        self,
        own: psycopg.AsyncConnection[Any],
        *,
        prepares: bool,
        resets: bool,
        backend: int,
        free: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        own.adapters.register_loader("json", ByteaBinaryLoader)  # what PostgreSQL built is passed on as it is
        self._own, self._pgconn, self._values = own, own.pgconn, Transformer(own)
        self._prepares, self._free, self._on_lost = prepares, free, lost
        self._prepared: OrderedDict[tuple[bytes, tuple[int, ...]], bytes] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        # Behind a pooler what comes after a call may reach another server: the call itself begins with the reset.
        self._resets_before, self._resets_behind = resets and not backend, resets and bool(backend)
        self._reset_statement = self._prepare_values(RESET, {})
        self._resetting = self._stale = self._keeps_connection = False
        self._ended = asyncio.Event()
        self._call: Call | None = None
        self._expected: deque[tuple[bytes, tuple[int, ...]] | bool] = deque()
        self._rows: list[Rows] = []
        self._error: psycopg.Error | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self.opened_at = self._loop.time()
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._on_readable)

    def send(self, call: Call) -> None:
        """Sends the call's statements; raises where one of its values can't be sent, and then none is."""
        ready = [self._prepare_values(text, given) for text, given in call.statements]
        self._call = call
        call.connection = self
        try:
            if self._resets_before and not self._keeps_connection:
                self._send_statement(*self._reset_statement, wanted=False)
            for statement in ready:
                self._send_statement(*statement)
            self._keeps_connection = call.keep_connection
            if self._resets_behind and not self._keeps_connection:
                self._send_statement(*self._reset_statement, wanted=False)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.OperationalError as error:
            self._fail(error)

    def _prepare_values(self, text: str, given: Mapping[str, Any]) -> tuple[bytes, Sequence[Any], Any, Any]:
        source, names = to_positional(text)
        if proof := given.get("proof"):
            given = {**given, "proof": proof(self._backend)}
        values = self._values.dump_sequence([given[name] for name in names], [PyFormat.AUTO] * len(names))
        return source, values, self._values.types or (), self._values.formats

    def _send_statement(
        self, source: bytes, values: Sequence[Any], types: tuple[int, ...], formats: Any, *, wanted: bool = True
    ) -> None:
        """Sends one statement; kept: whether its rows are part of the call's answer."""
        if not self._prepares:
            self._pgconn.send_query_params(source, values, types, formats, BINARY)
            self._expected.append(wanted)
            return
        key = (source, types)
        if key in self._prepared:
            self._prepared.move_to_end(key)
        else:
            if len(self._prepared) >= MAX_PREPARED:
                self._pgconn.send_close_prepared(self._prepared.popitem(last=False)[1])
                self._expected.append(False)
            # A name that no statement can guess: one that replaced ours would run in the next caller's context.
            self._prepared[key] = secrets.token_hex(16).encode()
            self._pgconn.send_prepare(self._prepared[key], source, types)
            self._expected.append(key)
        self._pgconn.send_query_prepared(self._prepared[key], values, formats, BINARY)
        self._expected.append(wanted)

    def _flush(self) -> None:
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._loop.remove_writer(self._socket)
            self._flush()
        except psycopg.OperationalError as error:
            self._fail(error)

    def _on_readable(self) -> None:
        if (
            not self.is_busy
        ):  # who says something unasked is about to go: better that nobody gets this connection any more
            return self.close()
        try:
            self._pgconn.consume_input()
            while (self._call or self._resetting) and not self._pgconn.is_busy():
                if result := self._pgconn.get_result():
                    self._handle_result(result)
        except psycopg.OperationalError as error:
            self._fail(error)
        return None

    def _handle_result(self, result: pq.abc.PGresult) -> None:
        """One statement's outcome, or the end of them all."""
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return self._complete()
        # libpq takes no COPY in a pipeline, and gets lost in its answers.
        if result.status in COPYING or not self._expected:
            return self._fail(psycopg.OperationalError("COPY, or an answer that nothing asked for"))
        awaited = self._expected.popleft()
        if result.status == pq.ExecStatus.TUPLES_OK and awaited is True:
            self._values.set_pgresult(result)
            self._rows.append(self._values.load_rows(0, result.ntuples, tuple))
        elif result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            if awaited is True:
                self._rows.append([])
        else:  # the first that failed, and all that were skipped after it
            if isinstance(awaited, tuple):
                self._prepared.pop(awaited, None)
            if result.status == pq.ExecStatus.FATAL_ERROR and self._error is None:
                self._error = error_from_result(result)
        return None

    def _complete(self) -> None:
        """The call has ended, or the reset of a session whose call has failed."""
        call, self._call = self._call, None
        rows, self._rows = self._rows, []
        error, self._error = self._error, None
        if call is None:
            self._resetting = False
            self._stale |= error is not None
        elif error:
            call.fail(error)
            self._stale = error.sqlstate in STALE_PLAN_STATES
            # With the call its reset was undone, or never ran.
            if self._resets_behind and not self._keeps_connection and not self._stale:
                return self._reset()
        elif not call.result.done():
            call.result.set_result(rows)
        if self._stale:
            self.close()
        elif self._cancelling:
            self._ended.set()
        elif not self._keeps_connection:
            self._free(self)
        return None

    def _reset(self) -> None:
        self._resetting = True
        try:
            self._send_statement(*self._reset_statement, wanted=False)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.OperationalError as error:
            self._fail(error)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the last caller is left: no transaction is open, and with it no context."""
        return self._pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way here or being cancelled, or nothing ever will be."""
        return bool(self._call or self._resetting or self._cancelling) or self._socket < 0

    def cancel(self, call: Call) -> None:
        """Its answer is not awaited any more: the server ends it, and only then the connection is for others."""
        if self._call is call and not self._cancelling:
            self._keeps_connection = False
            self._cancelling = self._loop.create_task(self._cancel())

    async def _cancel(self) -> None:
        """Asks until the server has ended the call; until then it counts as a connection of the pool. A call that its time limit does
        not end, since a statement lifted it, would keep its backend busy otherwise, until the server has none left."""
        try:
            for _ in range(MAX_CANCELS):
                if self._ended.is_set():
                    break
                await self._own.cancel_safe(timeout=2)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CANCEL_INTERVAL_S):
                        await self._ended.wait()
            else:
                self.close()
        except psycopg.Error:
            self.close()
        self._cancelling = None
        self._ended.clear()
        if not self.is_busy:
            self._free(self)

    def _fail(self, error: psycopg.Error) -> None:
        call, self._call = self._call, None
        self.close()
        if call:
            call.fail(self._error or error)

    def close(self) -> None:
        """At once; whoever waits for a call hears that it was lost."""
        if self._socket < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket = -1
        self._resetting = False
        self._ended.set()
        self._pgconn.finish()
        if self._call:
            self._call.fail(psycopg.OperationalError("the connection was closed"))
        self._on_lost(self)
