"""Bounds on connections, held before authentication: the size of a head, slow clients, and how many wait at a time.

uvicorn bounds none of it: it keeps a connection that sends nothing, collects a head of any length, and waits for a body and for a
reader as long as they like.
"""

import asyncio
import resource
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import ApiError, HeadersTooLarge, Invalid, NotFound, RequestTimeout
from app.http.envelope import error_envelope
from app.http.middleware import SECURITY_HEADERS
from app.security.client_address import Proxies, network
from app.server.protocol import HttpProtocol

IDLE, HEAD, BODY, ENDED = range(4)
"""The states of a connection: between requests, in a head, in a body; ENDED: bytes that still come are dropped."""
CHUNK_BYTES = 2**12
"""Bytes that the parser gets at a time; sizes are checked between two of them."""
FRAMING = 8
"""Bytes of chunk framing, extensions and trailers that are free for each byte of a body; head_bytes of others are the limit."""
MAX_PATH_BYTES = 1024
"""Bytes. No path of the API is as long, and Litestar remembers a thousand of those that were asked for."""


def default_max_connections() -> int:
    """Three quarters of the files this process may open: the rest is for its database connections, files and what just came."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (2**16 if files == resource.RLIM_INFINITY else files) * 3 // 4


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits. Sizes in bytes, times in seconds, rates in bytes a second."""

    max_head_bytes: int = 2**16
    max_header_fields: int = 100
    head_timeout_s: float = 10.0
    """From the connection's start, or from the first byte of a later request, to the end of the head."""
    min_body_rate: float = 500.0
    """The least average, after body_grace."""
    body_grace_s: float = 10.0
    max_body_pause_s: float = 30.0
    """The longest silence that a body sent fast before allows."""
    response_timeout_s: float = 30.0
    """How long an answer may wait without a byte of it being taken."""
    linger_s: float = 2.0
    """From a refusal to the end of the connection, so that the client can read it."""
    max_heads_per_address: int = 100
    connections: int = msgspec.field(default_factory=default_max_connections)
    check_interval_s: float = 1.0


class ConnectionMonitor:
    """The connections of a process: the unfinished heads by address, and a look at all of them now and then."""

    def __init__(self, proxies: Proxies, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._proxies = proxies
        self._heads: dict[LimitedHttpProtocol, str] = {}  # oldest first, here and there
        self._by_address: dict[str, dict[LimitedHttpProtocol, None]] = {}
        self.checked_at = 0.0
        """By the loop's clock; 0 before the first connection."""

    def add(self, connection: "LimitedHttpProtocol") -> None:
        """Notes an unfinished head, begun or expected; drops the oldest of its address, or of all, where it is one too many."""
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
        """Whether its head is one of the unfinished."""
        return connection in self._heads

    def discard(self, connection: "LimitedHttpProtocol") -> None:
        """Forgets it: its head is complete, or the connection has ended."""
        address = self._heads.pop(connection, None)
        if address is not None:
            same = self._by_address[address]
            del same[connection]
            if not same:
                del self._by_address[address]

    def _make_room(self, newest: "LimitedHttpProtocol") -> None:
        oldest = next(iter(self._heads))
        if oldest is newest:  # all others are being answered, or lie idle
            others: set[Any] = newest.connections
            oldest = next((one for one in others if one.may_go()), newest)
        oldest.drop()

    def _schedule_check(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        self.checked_at = loop.time()
        loop.call_later(self.limits.check_interval_s, self._check_all, loop, connections)

    def _check_all(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Looks at every connection. One timer a process: one for each request was 2% of its CPU."""
        before = self.checked_at
        self._schedule_check(loop, connections)
        for connection in list(connections):
            connection.check(self.checked_at, self.checked_at - before)


class LimitedHttpProtocol(HttpProtocol):
    """uvicorn's protocol, held to bounds. Its own refusals are the API's answers; an upgrade is answered like any other request."""

    # Apart from uvicorn's 28: past 30 Python finds all of an object's attributes more slowly.
    __slots__ = (
        "_body_is_new", "_counted", "_due", "_gone", "_gone_at", "_got", "_idle_since", "_limits", "_monitor", "_phase", "_room", "_trailers",
    )  # fmt: skip

    def __init__(self, *given: Any, monitor: ConnectionMonitor, **named: Any) -> None:
        super().__init__(*given, **named)
        self._monitor, self._limits = monitor, monitor.limits
        self._phase = IDLE
        self._room = self._limits.max_head_bytes
        self._counted = self._got = self._trailers = 0
        self._due: float | None = None
        self._body_is_new = False
        self._gone, self._gone_at, self._idle_since = -1, 0.0, 0.0

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's; the time for the first head begins."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._monitor.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, in pieces; what comes after a refusal is dropped."""
        start = 0
        while start < len(data) and self._phase != ENDED:
            size = CHUNK_BYTES if self._phase == BODY else min(CHUNK_BYTES, self._room)
            start += self._feed(data[start : start + size])

    def _feed(self, piece: bytes) -> int:
        """Parses it; how many bytes of it."""
        if self._phase == IDLE:
            self._phase = HEAD
        taken = self._counted = len(piece)
        self._got = 0
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            taken = upgrade.args[0]  # what follows is the request's body, or the next request
            self._read_on()
        except HttpParserError as error:
            cause = error.__context__
            self._reject(cause if isinstance(cause, ApiError) else Invalid.fields(request="Is not well-formed HTTP"))
            return taken
        if self._phase != ENDED and (self._phase != IDLE or self._due is not None):
            self._account()
        return taken

    def _read_on(self) -> None:
        """Has the body of a request for an upgrade read, which httptools takes for another protocol's, and any proxy for a body."""
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
            except HttpParserError:  # a Transfer-Encoding that it lets pass only where it reads no body
                self._reject(Invalid.fields(request="Is not well-formed HTTP"))

    def _account(self) -> None:
        """Updates sizes and times after a piece that left a head or a body unfinished, or finished one that had to be waited for."""
        if self._phase == HEAD:
            self._room -= self._counted
            if self._room <= 0:
                self._reject(HeadersTooLarge())
            elif not self._monitor.has_unfinished_head(self):
                self._expect_head()
            return
        self._monitor.discard(self)
        self._due = self._body_due() if self._phase == BODY else None
        if self._room <= 0:
            self._reject(HeadersTooLarge())

    def _body_due(self) -> float:
        """When more of the body must have come."""
        now, limits = self.loop.time(), self._limits
        if self._is_answered() and self._due is not None and not self._body_is_new:
            return self._due
        due = now + limits.body_grace_s if self._body_is_new or self._due is None else self._due
        self._body_is_new = False
        self._room = min(limits.max_head_bytes, self._room + (1 + FRAMING) * self._got - self._counted)
        return min(due + self._got / limits.min_body_rate, now + limits.max_body_pause_s)

    def _expect_head(self) -> None:
        self._due = self.loop.time() + self._limits.head_timeout_s
        self._monitor.add(self)

    def on_message_begin(self) -> None:
        """As uvicorn's."""
        HttpToolsProtocol.on_message_begin(self)
        self._phase = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's; but trailers are counted and dropped, as the application has its headers already."""
        if self._phase == BODY:
            self._trailers += 1
            if self._trailers > self._limits.max_header_fields:
                raise HeadersTooLarge
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """As uvicorn's."""
        if len(self.headers) > self._limits.max_header_fields:
            raise HeadersTooLarge
        if len(self.url) > MAX_PATH_BYTES and len(self.url.partition(b"?")[0]) > MAX_PATH_BYTES:
            raise NotFound
        HttpToolsProtocol.on_headers_complete(self)
        self._phase, self._room = BODY, self._limits.max_head_bytes
        self._counted = self._trailers = 0
        self._body_is_new = True

    def on_body(self, body: bytes) -> None:
        """As uvicorn's."""
        self._got += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """As uvicorn's; of a head that follows in the same piece the bytes count from the next piece on."""
        HttpToolsProtocol.on_message_complete(self)
        self._phase, self._room, self._counted = IDLE, self._limits.max_head_bytes, 0

    def on_response_complete(self) -> None:
        """As uvicorn's, but without a timer for each request: the watch looks how long a connection has been idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._phase == BODY:  # nothing waits for the rest of it
            self._due = self.loop.time() + self._limits.body_grace_s
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self._monitor.checked_at

    def is_idle(self) -> bool:
        """Whether it was answered and has not asked again."""
        return self._phase == IDLE and self._is_answered()

    def may_go(self) -> bool:
        """Whether it was answered: it is idle, or still sends the body of a request that nothing reads."""
        return self._phase in (IDLE, BODY) and self._is_answered()

    def _is_answered(self) -> bool:
        return self.cycle is not None and bool(self.cycle.response_complete)

    def check(self, now: float, since: float) -> None:
        """Ends the connection where its client is too slow. now: by the loop's clock; since: seconds since the last look."""
        waiting = self.transport.get_write_buffer_size()
        gone = self.transport.written - waiting  # type: ignore[attr-defined]
        if not waiting or gone != self._gone:
            self._gone, self._gone_at = gone, now
        elif now - self._gone_at >= self._limits.response_timeout_s:
            self.drop()
        if self.transport.is_closing():
            return
        if self._due is None:
            if self.is_idle() and now - self._idle_since > self.timeout_keep_alive + since:
                self.transport.close()
        elif self._waits_for_us():
            self._due += since
        elif now >= self._due:
            self._end()

    def _waits_for_us(self) -> bool:
        """Whether it is the server that keeps the client from sending."""
        return self.flow.read_paused or (self._phase == BODY and self.cycle.waiting_for_100_continue)

    def _end(self) -> None:
        if self._phase in (HEAD, BODY):
            self._reject(RequestTimeout())
        else:  # nothing has come, or the refusal was not read
            self.drop()

    def drop(self) -> None:
        """Ends the connection at once."""
        self._monitor.discard(self)
        self._phase = ENDED
        self.transport.abort()

    def _reject(self, error: ApiError) -> None:
        """Answers with the error and reads nothing more. Behind a request that is still being answered it only closes, after that."""
        phase, self._phase, self._due = self._phase, ENDED, None
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
            self.transport.write(_answer(error, self.server_state.default_headers))
            self.transport.write_eof()  # not close(): with unread bytes that resets the connection, and the answer is lost
            self._due = self.loop.time() + self._limits.linger_s


class _BodyCallbacks:
    """The callbacks of a parser for the rest of a request whose head is known."""

    def __init__(self, request: LimitedHttpProtocol) -> None:
        self.on_header = request.on_header
        self.on_body = request.on_body
        self.on_message_complete = request.on_message_complete


def _answer(error: ApiError, defaults: list[tuple[bytes, bytes]]) -> bytes:
    """The whole HTTP answer. defaults: uvicorn's headers for every answer."""
    name = str(uuid4())
    body = error_envelope(error, name)
    head = {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"connection": b"close",
        b"cache-control": b"no-store",
        b"x-request-id": name.encode(),
    }
    max_header_fields = b"".join(b"%s: %s\r\n" % pair for pair in [*defaults, *(head | SECURITY_HEADERS).items()])
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (
        error.status,
        HTTPStatus(error.status).phrase.encode(),
        max_header_fields,
        body,
    )
