"""Limits on connections before authentication: the size of a head, slow clients, and the number of unfinished heads.

uvicorn has none of these limits. It keeps a connection that sends nothing, and buffers a head of any length. It waits without a
timeout for a body and for a client that does not read.
"""

import asyncio
import resource
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import ApiError, HeadersTooLarge, Invalid, RequestTimeout, TooManyHeaderFields, UnknownPath
from app.http.envelope import error_envelope
from app.http.middleware import SECURITY_HEADERS
from app.security.client_address import Proxies, network
from app.server.protocol import HttpProtocol

IDLE, HEAD, BODY, ENDED = range(4)
"""The states of a connection: between requests, in a head, in a body. In the state ENDED, received bytes are dropped."""
CHUNK_BYTES = 2**12
"""Bytes that the parser gets at a time. Sizes are checked between two chunks."""
FRAMING_BYTES = 8
"""Chunk framing, extensions and trailers that are allowed for each byte of a body. Beyond them, max_head_bytes is the limit."""
MAX_PATH_BYTES = 1024
"""The longest accepted path. Litestar caches a thousand requested paths, and no path of the API is as long."""


def default_max_connections() -> int:
    """Three quarters of the files that this process may open. The rest is for database connections, files and new connections."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (2**16 if files == resource.RLIM_INFINITY else files) * 3 // 4


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of connections."""

    max_head_bytes: int = 2**16
    max_header_fields: int = 100
    head_timeout_s: float = 10.0
    """The time from the connection's start, or from the first byte of a later request, to the end of the head."""
    min_body_bytes_per_s: float = 500.0
    """The minimum average rate of a body, after body_grace_s."""
    body_grace_s: float = 10.0
    max_body_pause_s: float = 30.0
    """The longest pause in a body, even if it was sent fast before."""
    response_timeout_s: float = 30.0
    """How long a response may wait for a client that reads none of it."""
    linger_s: float = 2.0
    """The time from a refusal to the end of the connection, so that the client can read the response."""
    max_heads_per_address: int = 100
    connections: int = msgspec.field(default_factory=default_max_connections)
    check_interval_s: float = 1.0


class ConnectionMonitor:
    """Monitors the connections of a process: counts unfinished heads by address, and checks all timeouts periodically."""

    def __init__(self, proxies: Proxies, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._proxies = proxies
        self._heads: dict[LimitedHttpProtocol, str] = {}  # oldest first, as in _by_address
        self._by_address: dict[str, dict[LimitedHttpProtocol, None]] = {}
        self.checked_at = 0.0
        """Time of the last check, by the loop's clock; 0 before the first connection."""

    def add(self, connection: "LimitedHttpProtocol") -> None:
        """Adds an unfinished head, begun or expected. Beyond a limit, drops the oldest one of the address or of all."""
        if not self.checked_at:
            self._schedule_check(connection.loop, connection.connections)
        address, is_proxy = self._proxies.peer(connection.client[0] if connection.client else "")
        address = "" if is_proxy else network(address)
        self._heads[connection] = address
        same = self._by_address.setdefault(address, {})
        same[connection] = None
        if address and len(same) > self.limits.max_heads_per_address:
            next(iter(same)).drop()
        elif len(connection.connections) > self.limits.connections:
            self._make_room(connection)

    def has_unfinished_head(self, connection: "LimitedHttpProtocol") -> bool:
        """Whether the connection's head is unfinished."""
        return connection in self._heads

    def discard(self, connection: "LimitedHttpProtocol") -> None:
        """Removes the connection, because its head is complete or the connection has ended."""
        address = self._heads.pop(connection, None)
        if address is not None:
            same = self._by_address[address]
            del same[connection]
            if not same:
                del self._by_address[address]

    def _make_room(self, newest: "LimitedHttpProtocol") -> None:
        oldest = next(iter(self._heads))
        if oldest is newest:  # all other connections are idle, or their requests run
            connections: set[Any] = newest.connections
            oldest = next((connection for connection in connections if connection.is_expendable()), newest)
        oldest.drop()

    def _schedule_check(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        self.checked_at = loop.time()
        loop.call_later(self.limits.check_interval_s, self._check_all, loop, connections)

    def _check_all(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Checks every connection. One timer serves the process, because one for each request was 2% of its CPU."""
        previous = self.checked_at
        self._schedule_check(loop, connections)
        for connection in list(connections):
            connection.check(self.checked_at, self.checked_at - previous)


class LimitedHttpProtocol(HttpProtocol):
    """uvicorn's protocol with these limits. Refusals are error responses of the API; requests to upgrade are handled like others."""

    # In slots, because uvicorn's class has 28 attributes, and beyond 30 Python looks up all of an object's attributes more slowly.
    __slots__ = (
        "_body_is_new", "_chunk_body_bytes", "_chunk_bytes", "_due_at", "_idle_since", "_limits", "_monitor", "_phase", "_remaining_bytes",
        "_sent_at", "_sent_bytes", "_trailers",
    )  # fmt: skip

    def __init__(self, *args: Any, monitor: ConnectionMonitor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._monitor, self._limits = monitor, monitor.limits
        self._phase = IDLE
        self._remaining_bytes = self._limits.max_head_bytes
        self._chunk_bytes = self._chunk_body_bytes = self._trailers = 0
        self._due_at: float | None = None
        self._body_is_new = False
        self._sent_bytes, self._sent_at, self._idle_since = -1, 0.0, 0.0

    def connection_made(self, transport: Any) -> None:
        """Calls uvicorn's method, and starts the timeout of the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Calls uvicorn's method, and removes the connection from the monitor."""
        self._monitor.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses the data in chunks. Data after a refusal is dropped."""
        start = 0
        while start < len(data) and self._phase != ENDED:
            size = CHUNK_BYTES if self._phase == BODY else min(CHUNK_BYTES, self._remaining_bytes)
            start += self._feed(data[start : start + size])

    def _feed(self, chunk: bytes) -> int:
        """Parses a chunk; returns how many bytes of it were parsed."""
        if self._phase == IDLE:
            self._phase = HEAD
        parsed = self._chunk_bytes = len(chunk)
        self._chunk_body_bytes = 0
        try:
            self.parser.feed_data(chunk)
        except HttpParserUpgrade as upgrade:
            parsed = upgrade.args[0]  # the rest is the request's body, or the next request
            self._parse_upgrade_body()
        except HttpParserError as error:
            cause = error.__context__
            self._reject(cause if isinstance(cause, ApiError) else Invalid.fields(request="Is not well-formed HTTP"))
            return parsed
        if self._phase != ENDED and (self._phase != IDLE or self._due_at is not None):
            self._account()
        return parsed

    def _parse_upgrade_body(self) -> None:
        """Parses the body of a request to upgrade, as a proxy does. httptools would treat the body as another protocol."""
        framing = [
            b"%s: %s\r\n" % pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")
        ]
        if framing:
            self.cycle.more_body, self.cycle.keep_alive = True, False
            self.cycle.message_event.clear()
            self._phase, self._body_is_new = BODY, True
            self.parser = HttpRequestParser(_BodyCallbacks(self))
            try:
                self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            except HttpParserError:  # a Transfer-Encoding that httptools accepts only if it parses no body
                self._reject(Invalid.fields(request="Is not well-formed HTTP"))

    def _account(self) -> None:
        """Updates sizes and deadlines after a chunk, if a head or body is unfinished or one with a deadline has just ended."""
        if self._phase == HEAD:
            self._remaining_bytes -= self._chunk_bytes
            if self._remaining_bytes <= 0:
                self._reject(HeadersTooLarge())
            elif not self._monitor.has_unfinished_head(self):
                self._expect_head()
            return
        self._monitor.discard(self)
        self._due_at = self._body_due_at() if self._phase == BODY else None
        if self._remaining_bytes <= 0:
            self._reject(HeadersTooLarge())

    def _body_due_at(self) -> float:
        """The time by which more of the body must arrive."""
        now, limits = self.loop.time(), self._limits
        if self._is_answered() and self._due_at is not None and not self._body_is_new:
            return self._due_at
        due_at = now + limits.body_grace_s if self._body_is_new or self._due_at is None else self._due_at
        self._body_is_new = False
        allowed_bytes = (1 + FRAMING_BYTES) * self._chunk_body_bytes
        self._remaining_bytes = min(limits.max_head_bytes, self._remaining_bytes + allowed_bytes - self._chunk_bytes)
        return min(due_at + self._chunk_body_bytes / limits.min_body_bytes_per_s, now + limits.max_body_pause_s)

    def _expect_head(self) -> None:
        self._due_at = self.loop.time() + self._limits.head_timeout_s
        self._monitor.add(self)

    def on_message_begin(self) -> None:
        """Calls uvicorn's method, and enters the state HEAD."""
        HttpToolsProtocol.on_message_begin(self)
        self._phase = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collects a header as uvicorn does. Trailers are counted and dropped, because the application already has its headers."""
        if self._phase == BODY:
            self._trailers += 1
            if self._trailers > self._limits.max_header_fields:
                raise TooManyHeaderFields
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Checks the number of headers and the path, calls uvicorn's method, and enters the state BODY."""
        if len(self.headers) > self._limits.max_header_fields:
            raise TooManyHeaderFields
        if len(self.url) > MAX_PATH_BYTES and len(self.url.partition(b"?")[0]) > MAX_PATH_BYTES:
            raise UnknownPath
        HttpToolsProtocol.on_headers_complete(self)
        self._phase, self._remaining_bytes = BODY, self._limits.max_head_bytes
        self._chunk_bytes = self._trailers = 0
        self._body_is_new = True

    def on_body(self, body: bytes) -> None:
        """Counts the bytes, and calls uvicorn's method."""
        self._chunk_body_bytes += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """Calls uvicorn's method, and enters the state IDLE. A head that begins in the same chunk is counted from the next chunk on."""
        HttpToolsProtocol.on_message_complete(self)
        self._phase, self._remaining_bytes, self._chunk_bytes = IDLE, self._limits.max_head_bytes, 0

    def on_response_complete(self) -> None:
        """Does the same as uvicorn's method, but without a timer for each request: check() closes idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._phase == BODY:  # the application does not read the rest of the body
            self._due_at = self.loop.time() + self._limits.body_grace_s
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self._monitor.checked_at

    def is_idle(self) -> bool:
        """Whether the last request was answered and no other has begun."""
        return self._phase == IDLE and self._is_answered()

    def is_expendable(self) -> bool:
        """Whether the last request was answered. The client may still send its body, which the application does not read."""
        return self._phase in (IDLE, BODY) and self._is_answered()

    def _is_answered(self) -> bool:
        return self.cycle is not None and bool(self.cycle.response_complete)

    def check(self, now: float, since_s: float) -> None:
        """Ends the connection if its client is too slow. now: the loop's clock; since_s: time since the last check."""
        unsent_bytes = self.transport.get_write_buffer_size()
        sent_bytes = self.transport.written_bytes - unsent_bytes  # type: ignore[attr-defined]
        if not unsent_bytes or sent_bytes != self._sent_bytes:
            self._sent_bytes, self._sent_at = sent_bytes, now
        elif now - self._sent_at >= self._limits.response_timeout_s:
            self.drop()
        if self.transport.is_closing():
            return
        if self._due_at is None:
            if self.is_idle() and now - self._idle_since > self.timeout_keep_alive + since_s:
                self.transport.close()
        elif self._is_client_blocked():
            self._due_at += since_s
        elif now >= self._due_at:
            self._time_out()

    def _is_client_blocked(self) -> bool:
        """Whether the server prevents the client from sending."""
        return self.flow.read_paused or (self._phase == BODY and self.cycle.waiting_for_100_continue)

    def _time_out(self) -> None:
        if self._phase in (HEAD, BODY):
            self._reject(RequestTimeout())
        else:  # the client has sent nothing, or has not read the refusal
            self.drop()

    def drop(self) -> None:
        """Ends the connection at once."""
        self._monitor.discard(self)
        self._phase = ENDED
        self.transport.abort()

    def _reject(self, error: ApiError) -> None:
        """Responds with the error and stops reading. If another response is in progress, only closes the connection after it."""
        phase, self._phase, self._due_at = self._phase, ENDED, None
        self._monitor.discard(self)
        cycle = self.cycle
        if phase == BODY and (cycle.response_started or self.pipeline):
            self.transport.close()
        elif phase != BODY and cycle and not cycle.response_complete:
            cycle.keep_alive = False
        else:
            if phase == BODY:
                cycle.disconnected = True
                cycle.message_event.set()
            is_head = self.parser.get_method() == b"HEAD"
            self.transport.write(_error_response(error, self.server_state.default_headers, is_head=is_head))
            self.transport.write_eof()  # not close(), which resets a connection with unread bytes, so the response would be lost
            self._due_at = self.loop.time() + self._limits.linger_s


class _BodyCallbacks:
    """The parser callbacks for the body of a request whose head was already parsed."""

    def __init__(self, request: LimitedHttpProtocol) -> None:
        self.on_header = request.on_header
        self.on_body = request.on_body
        self.on_message_complete = request.on_message_complete


def _error_response(error: ApiError, default_headers: list[tuple[bytes, bytes]], *, is_head: bool) -> bytes:
    """The complete HTTP response, to HEAD without its body. default_headers: uvicorn's headers of every response."""
    request_id = str(uuid4())
    body = error_envelope(error, request_id)
    headers = {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"connection": b"close",
        b"cache-control": b"no-store",
        b"x-request-id": request_id.encode(),
    }
    fields = b"".join(b"%s: %s\r\n" % pair for pair in [*default_headers, *(headers | SECURITY_HEADERS).items()])
    phrase = HTTPStatus(error.status).phrase.encode()
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (error.status, phrase, fields, b"" if is_head else body)
