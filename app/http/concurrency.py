"""Turns: how many requests of one user, one organization and one address are under way in a process; the others wait.

Requests that need a password hashed have turns of their own: hashing takes the CPU, and every login makes five round trips and locks the
counters of its address. Two hundred at once would take all connections and half a second of the event loop from those who are logged in.
"""

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.database.fair_queue import Gate, Key
from app.http.rate_limits import network

OF_A_USER, OF_AN_ORGANIZATION, WAITING, PATIENCE = 16, 64, 256, 10.0
"""Requests under way; how many of one user may wait for their turn, and for how many seconds. Beyond either 429."""
STREAMS_OF_A_USER, STREAMS_OF_AN_ORGANIZATION = 2, 4
"""Imports and exports under way: each keeps the process busy with rows as long as it lasts. They don't count as the user's requests, which
would wait for them."""
HASHES_AT_ONCE, HASHES_PATIENCE = 2, 30.0
"""Requests under way that need a hash, in order of their addresses: one is hashed while the other asks the database."""


class Turns(ASGIMiddleware):
    """Lets a few requests of each user pass at a time, and of routes with `hashes=True` a few in all."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._hashes = Gate(in_all=HASHES_AT_ONCE, waiting=WAITING, patience=HASHES_PATIENCE)
        self._users = Gate(of_group=OF_AN_ORGANIZATION, of_member=OF_A_USER, waiting=WAITING, patience=PATIENCE)
        self._streams = Gate(
            of_group=STREAMS_OF_AN_ORGANIZATION, of_member=STREAMS_OF_A_USER, waiting=WAITING, patience=PATIENCE
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        handler = scope.get("route_handler")
        caller = scope.get("auth")
        key: Key
        if handler and handler.opt.get("hashes"):
            client = scope.get("client")
            gate, key = self._hashes, (network(client[0]) if client else "", "")
        elif caller:
            gate = self._streams if handler and handler.opt.get("gives") else self._users
            key = caller.key
        else:
            await next_app(scope, receive, send)
            return
        if handler and "data" in handler.parsed_fn_signature.parameters:
            await Request(scope, receive).body()  # kept for the handler: a client that sends slowly has no turn yet
        if not gate.may_enter(key):
            await gate.enter(key)
        turn = _Turn(gate, key)
        try:
            await next_app(scope, receive, turn.ending_with(send) if gate is self._hashes else send)
        finally:
            turn.end()


class _Turn:
    """A place that was taken, given back once."""

    def __init__(self, gate: Gate, key: Key) -> None:
        self._gate, self._key = gate, key
        self._ended = False

    def end(self) -> None:
        """The next one passes."""
        if not self._ended:
            self._ended = True
            self._gate.leave(self._key)

    def ending_with(self, send: Send) -> Send:
        """Ends with the answer, not with what is done after it: by the time of the next turn it would tell what that was."""

        async def ending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.end()

        return ending
