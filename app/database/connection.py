"""A connection to PostgreSQL in libpq's pipeline mode: the statements of a call need one round trip together.

psycopg opens the connection, converts values and rows, and maps errors to exceptions. psycopg's own wait registers the socket with
the event loop each time, which is half the cost of a short statement (tests/load/RESULTS.md). This class registers one reader for
the connection's lifetime.
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
"""Returns when the client no longer waits for the response."""

ANONYMOUS: Key = ("", "")
"""The key of calls without a user and without an address."""
MAX_PREPARED = 200
"""Prepared statements of one connection. Beyond this number, the least recently used one is closed."""
RESET = "select context.reset_session()"
"""Removes everything that a call may have left in the session (sql/platform/context.sql)."""
CANCEL_INTERVAL_S, MAX_CANCELS = 1.0, 30
"""Interval between two cancel requests for a call, and their number before the connection is closed."""
STALE_PLAN_STATES = ("0A000", "26000", "XX000")
"""The plan no longer matches the table, the prepared statement is missing, or a function was replaced while the statement ran ("cache
lookup failed"). The call is sent again, then the connection is replaced."""
COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
BINARY = pq.Format.BINARY
"""The format of results. psycopg loads it in C, including JSON as bytes; JSON as text would need a Python call for each value."""
_NAMED = re.compile(r"%\((\w+)\)s|%%")


@lru_cache(maxsize=4000)
def to_positional(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Converts psycopg's %(name)s placeholders to $1, $2, ...; returns the statement and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if not (name := match.group(1)):
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _NAMED.sub(number, text).encode(), tuple(names)


class Call:
    """Statements for one round trip, and the future rows of each."""

    __slots__ = (
        "admission", "can_repeat", "connection", "disconnected", "keep_connection", "key", "records_cost", "result", "sent_at",
        "statements", "ticks",
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
        """The organization and user, or the address, on whose behalf the call runs."""
        self.result: asyncio.Future[list[Rows]] = asyncio.get_running_loop().create_future()
        self.keep_connection = keep_connection
        """Whether the connection stays reserved afterwards, for more calls of the same transaction."""
        self.connection: Connection | None = None
        self.admission: Any = None
        """The class of service in which the call waits or waited."""
        self.records_cost = False
        """Whether its duration is a measurement of its statement's cost."""
        self.sent_at = 0.0
        self.can_repeat = False
        """Whether it may be sent again after a stale plan: it began its transaction itself, so it had no effect."""
        self.ticks = 0
        """Ticks of the pool since the call began to wait; once sent, ticks since then."""

    def fail(self, error: Exception) -> None:
        """Makes the error the result of the call, unless it already has one."""
        if not self.result.done():
            self.result.set_exception(error)


class Connection:
    """A physical connection that runs one call at a time. Calls `free` when it can run the next call, and `lost` when it is closed.

    resets: whether the session is reset between calls. backend: the server's process id, 0 behind a pooler.
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
        own.adapters.register_loader("json", ByteaBinaryLoader)  # JSON that PostgreSQL built is passed on unparsed
        self._own, self._pgconn, self._values = own, own.pgconn, Transformer(own)
        self._prepares, self._free, self._on_lost = prepares, free, lost
        self._prepared: OrderedDict[tuple[bytes, tuple[int, ...]], bytes] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        # Behind a pooler, a statement after the call may reach another server process. So the call begins with the reset.
        self._resets_before, self._resets_after = resets and not backend, resets and bool(backend)
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
        """Sends the call's statements. Raises if a value cannot be sent; then no statement is sent."""
        call.can_repeat = self.is_idle
        self._send(call)

    def _send(self, call: Call, *, first: Sequence[str] = ()) -> None:
        """first: statements without parameters that precede the call's; their rows are not part of its result."""
        preceding = [self._prepare_values(text, {}) for text in first]
        prepared = [self._prepare_values(text, params) for text, params in call.statements]
        self._call = call
        call.connection = self
        try:
            for statement in preceding:
                self._send_statement(*statement, wanted=False)
            if self._resets_before and not self._keeps_connection:
                self._send_statement(*self._reset_statement, wanted=False)
            for statement in prepared:
                self._send_statement(*statement)
            self._keeps_connection = call.keep_connection
            if self._resets_after and not self._keeps_connection:
                self._send_statement(*self._reset_statement, wanted=False)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.OperationalError as error:
            self._fail(error)

    def _prepare_values(self, text: str, params: Mapping[str, Any]) -> tuple[bytes, Sequence[Any], Any, Any]:
        source, names = to_positional(text)
        if proof := params.get("proof"):
            params = {**params, "proof": proof(self._backend)}
        values = self._values.dump_sequence([params[name] for name in names], [PyFormat.AUTO] * len(names))
        return source, values, self._values.types or (), self._values.formats

    def _send_statement(
        self, source: bytes, values: Sequence[Any], types: tuple[int, ...], formats: Any, *, wanted: bool = True
    ) -> None:
        """Sends one statement. wanted: whether its rows are part of the call's result."""
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
            # A random name. Injected SQL that guessed it could replace the statement and run in the next caller's context.
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
        if not self.is_busy:  # unexpected input means that the server is closing the connection
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
        """Processes the result of one statement, or the end of the call's pipeline."""
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return self._complete()
        # libpq does not support COPY in pipeline mode: afterwards, results no longer match the statements.
        if result.status in COPYING or not self._expected:
            return self._fail(psycopg.OperationalError("COPY, or an unexpected result"))
        expected = self._expected.popleft()
        if result.status == pq.ExecStatus.TUPLES_OK and expected is True:
            self._values.set_pgresult(result)
            self._rows.append(self._values.load_rows(0, result.ntuples, tuple))
        elif result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            if expected is True:
                self._rows.append([])
        else:  # the first statement that failed, and those skipped after it
            if isinstance(expected, tuple):
                self._prepared.pop(expected, None)
            if result.status == pq.ExecStatus.FATAL_ERROR and self._error is None:
                self._error = error_from_result(result)
        return None

    def _complete(self) -> None:
        """Ends the call, or the session reset after a failed call."""
        call, self._call = self._call, None
        rows, self._rows = self._rows, []
        error, self._error = self._error, None
        if call is None:
            self._resetting = False
            self._stale |= error is not None
        elif error:
            self._stale |= error.sqlstate in STALE_PLAN_STATES
            if error.sqlstate in STALE_PLAN_STATES and call.can_repeat and not call.result.done():
                return self._repeat(call)
            call.fail(error)
            # The reset was part of the failed transaction, so it was skipped or rolled back.
            if self._resets_after and not self._keeps_connection and not self._stale:
                return self._reset()
        elif not call.result.done():
            call.result.set_result(rows)
        if self._stale and not self._keeps_connection:
            self.close()
        elif self._cancelling:
            self._ended.set()
        elif not self._keeps_connection:
            self._free(self)
        return None

    def _repeat(self, call: Call) -> None:
        """Sends the call once more, with statements that are prepared anew. A change of the schema makes all plans stale at once."""
        call.can_repeat = False
        self._prepared.clear()
        self._keeps_connection = False
        self._send(call, first=() if self.is_idle else ["rollback"])

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
        """Whether no transaction is open. Without one there is no context of the last caller."""
        return self._pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_busy(self) -> bool:
        """Whether a call, its cancellation or a session reset runs. True also if the connection is closed."""
        return bool(self._call or self._resetting or self._cancelling) or self._socket < 0

    def cancel(self, call: Call) -> None:
        """Cancels the call, because its result is no longer needed. The connection is free once the server has ended the call."""
        if self._call is call and not self._cancelling:
            self._keeps_connection = False
            self._cancelling = self._loop.create_task(self._cancel())

    async def _cancel(self) -> None:
        """Sends cancel requests until the server has ended the call. Until then the connection counts as one of the pool.

        Injected SQL can lift the statement_timeout of a call. Without cancelling, such calls could use up all backends of the server.
        """
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
        """Closes the connection at once. A running call fails."""
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
