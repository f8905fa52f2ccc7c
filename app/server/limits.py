"""Bounds on connections, held before authentication: the size of a head, slow clients, and how many wait at a time.

uvicorn bounds none of it: it keeps a connection that sends nothing, collects a head of any length, and waits for a body and for a
reader as long as they like.
"""

import asyncio
import resource
from http import HTTPStatus
from typing import Any

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import ApiError, HeadersTooLarge, Invalid, NotFound, RequestTimeout
from app.http.middleware import ALWAYS, new_id
from app.http.rate_limits import network
from app.http.schemas import failure
from app.security.client_address import Proxies
from app.server.protocol import Corked

IDLE, HEAD, BODY, ENDED = range(4)
"""The states of a connection: between requests, in a head, in a body; ENDED: bytes that still come are dropped."""
PIECE = 2**12
"""Bytes that the parser gets at a time; sizes are checked between two of them."""
FRAMING = 8
"""Bytes of chunk framing, extensions and trailers that are free for each byte of a body; head_bytes of others are the limit."""
LONGEST_PATH = 1024
"""Bytes. No path of the API is as long, and Litestar remembers a thousand of those that were asked for."""


def room_for_connections() -> int:
    """Three quarters of the files this process may open: the rest is for its database connections, files and what just came."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (2**16 if files == resource.RLIM_INFINITY else files) * 3 // 4


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits. Sizes in bytes, times in seconds, rates in bytes a second."""

    head_bytes: int = 2**16
    fields: int = 100
    head_time: float = 10.0
    """From the connection's start, or from the first byte of a later request, to the end of the head."""
    body_rate: float = 500.0
    """The least average, after body_grace."""
    body_grace: float = 10.0
    body_credit: float = 30.0
    """The longest silence that a body sent fast before allows."""
    answer_time: float = 30.0
    """How long an answer may wait without a byte of it being taken."""
    lingering: float = 2.0
    """From a refusal to the end of the connection, so that the client can read it."""
    heads_an_address: int = 100
    connections: int = msgspec.field(default_factory=room_for_connections)
    look_every: float = 1.0


class Watch:
    """The connections of a process: the unfinished heads by address, and a look at all of them now and then."""

    def __init__(self, proxies: Proxies, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self._proxies = proxies
        self._heads: dict[Bounded, str] = {}  # oldest first, here and there
        self._by_address: dict[str, dict[Bounded, None]] = {}
        self.looked_at = 0.0
        """By the loop's clock; 0 before the first connection."""

    def add(self, connection: "Bounded") -> None:
        """Notes an unfinished head, begun or expected; drops the oldest of its address, or of all, where it is one too many."""
        if not self.looked_at:
            self._look_later(connection.loop, connection.connections)
        address, is_proxy = self._proxies.peer(connection.client[0] if connection.client else "")
        address = "" if is_proxy else network(address)
        self._heads[connection] = address
        same = self._by_address.setdefault(address, {})
        same[connection] = None
        if address and len(same) > self.bounds.heads_an_address:
            next(iter(same)).drop()
        elif len(connection.connections) > self.bounds.connections:
            self._make_room(connection)

    def holds(self, connection: "Bounded") -> bool:
        """Whether its head is one of the unfinished."""
        return connection in self._heads

    def discard(self, connection: "Bounded") -> None:
        """Forgets it: its head is complete, or the connection has ended."""
        address = self._heads.pop(connection, None)
        if address is not None:
            same = self._by_address[address]
            del same[connection]
            if not same:
                del self._by_address[address]

    def _make_room(self, newest: "Bounded") -> None:
        oldest = next(iter(self._heads))
        if oldest is newest:  # all others are being answered, or lie idle
            others: set[Any] = newest.connections
            oldest = next((one for one in others if one.may_go()), newest)
        oldest.drop()

    def _look_later(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        self.looked_at = loop.time()
        loop.call_later(self.bounds.look_every, self._look, loop, connections)

    def _look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Looks at every connection. One timer a process: one for each request was 2% of its CPU."""
        before = self.looked_at
        self._look_later(loop, connections)
        for connection in list(connections):
            connection.look(self.looked_at, self.looked_at - before)


class Bounded(Corked):
    """uvicorn's protocol, held to bounds. Its own refusals are the API's answers; an upgrade is answered like any other request."""

    # Apart from uvicorn's 28: past 30 Python finds all of an object's attributes more slowly.
    __slots__ = (
        "_body_is_new", "_bounds", "_counted", "_due", "_gone", "_gone_at", "_got", "_idle_since", "_phase", "_room", "_trailers", "_watch",
    )  # fmt: skip

    def __init__(self, *given: Any, watch: Watch, **named: Any) -> None:
        super().__init__(*given, **named)
        self._watch, self._bounds = watch, watch.bounds
        self._phase = IDLE
        self._room = self._bounds.head_bytes
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
        self._watch.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, in pieces; what comes after a refusal is dropped."""
        start = 0
        while start < len(data) and self._phase != ENDED:
            size = PIECE if self._phase == BODY else min(PIECE, self._room)
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
            self._refuse(cause if isinstance(cause, ApiError) else Invalid.fields(request="Is not well-formed HTTP"))
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
            self.parser = HttpRequestParser(_Rest(self))
            try:
                self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            except HttpParserError:  # a Transfer-Encoding that it lets pass only where it reads no body
                self._refuse(Invalid.fields(request="Is not well-formed HTTP"))

    def _account(self) -> None:
        """Updates sizes and times after a piece that left a head or a body unfinished, or finished one that had to be waited for."""
        if self._phase == HEAD:
            self._room -= self._counted
            if self._room <= 0:
                self._refuse(HeadersTooLarge())
            elif not self._watch.holds(self):
                self._expect_head()
            return
        self._watch.discard(self)
        self._due = self._body_due() if self._phase == BODY else None
        if self._room <= 0:
            self._refuse(HeadersTooLarge())

    def _body_due(self) -> float:
        """When more of the body must have come."""
        now, bounds = self.loop.time(), self._bounds
        if self._is_answered() and self._due is not None and not self._body_is_new:
            return self._due
        due = now + bounds.body_grace if self._body_is_new or self._due is None else self._due
        self._body_is_new = False
        self._room = min(bounds.head_bytes, self._room + (1 + FRAMING) * self._got - self._counted)
        return min(due + self._got / bounds.body_rate, now + bounds.body_credit)

    def _expect_head(self) -> None:
        self._due = self.loop.time() + self._bounds.head_time
        self._watch.add(self)

    def on_message_begin(self) -> None:
        """As uvicorn's."""
        HttpToolsProtocol.on_message_begin(self)
        self._phase = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's; but trailers are counted and dropped, as the application has its headers already."""
        if self._phase == BODY:
            self._trailers += 1
            if self._trailers > self._bounds.fields:
                raise HeadersTooLarge
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """As uvicorn's."""
        if len(self.headers) > self._bounds.fields:
            raise HeadersTooLarge
        if len(self.url) > LONGEST_PATH and len(self.url.partition(b"?")[0]) > LONGEST_PATH:
            raise NotFound
        HttpToolsProtocol.on_headers_complete(self)
        self._phase, self._room = BODY, self._bounds.head_bytes
        self._counted = self._trailers = 0
        self._body_is_new = True

    def on_body(self, body: bytes) -> None:
        """As uvicorn's."""
        self._got += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """As uvicorn's; of a head that follows in the same piece the bytes count from the next piece on."""
        HttpToolsProtocol.on_message_complete(self)
        self._phase, self._room, self._counted = IDLE, self._bounds.head_bytes, 0

    def on_response_complete(self) -> None:
        """As uvicorn's, but without a timer for each request: the watch looks how long a connection has been idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._phase == BODY:  # nothing waits for the rest of it
            self._due = self.loop.time() + self._bounds.body_grace
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self._watch.looked_at

    def is_idle(self) -> bool:
        """Whether it was answered and has not asked again."""
        return self._phase == IDLE and self._is_answered()

    def may_go(self) -> bool:
        """Whether it was answered: it is idle, or still sends the body of a request that nothing reads."""
        return self._phase in (IDLE, BODY) and self._is_answered()

    def _is_answered(self) -> bool:
        return self.cycle is not None and bool(self.cycle.response_complete)

    def look(self, now: float, since: float) -> None:
        """Ends the connection where its client is too slow. now: by the loop's clock; since: seconds since the last look."""
        waiting = self.transport.get_write_buffer_size()
        gone = self.transport.written - waiting  # type: ignore[attr-defined]
        if not waiting or gone != self._gone:
            self._gone, self._gone_at = gone, now
        elif now - self._gone_at >= self._bounds.answer_time:
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
            self._refuse(RequestTimeout())
        else:  # nothing has come, or the refusal was not read
            self.drop()

    def drop(self) -> None:
        """Ends the connection at once."""
        self._watch.discard(self)
        self._phase = ENDED
        self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Answers with the error and reads nothing more. Behind a request that is still being answered it only closes, after that."""
        phase, self._phase, self._due = self._phase, ENDED, None
        self._watch.discard(self)
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
            self._due = self.loop.time() + self._bounds.lingering


class _Rest:
    """The callbacks of a parser for the rest of a request whose head is known."""

    def __init__(self, request: Bounded) -> None:
        self.on_header = request.on_header
        self.on_body = request.on_body
        self.on_message_complete = request.on_message_complete


def _answer(error: ApiError, defaults: list[tuple[bytes, bytes]]) -> bytes:
    """The whole HTTP answer. defaults: uvicorn's headers for every answer."""
    name = new_id()
    body = failure(error, name)
    head = {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"connection": b"close",
        b"cache-control": b"no-store",
        b"x-request-id": name.encode(),
    }
    fields = b"".join(b"%s: %s\r\n" % pair for pair in [*defaults, *(head | ALWAYS).items()])
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (error.status, HTTPStatus(error.status).phrase.encode(), fields, body)
