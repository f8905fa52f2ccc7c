"""Turns: whoever needs a password hashed waits before anything is spent on the request, so that a burst of logins slows nobody else.

Hashing takes the CPU, and every login makes five round trips and locks the counters of its address: two hundred at once would
take all connections and half a second of the event loop from those who are logged in.
"""

import asyncio

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from app.errors import Unavailable

AT_ONCE = 2
"""Requests of one process that may be under way: one is hashed while the other asks the database."""
WAITING, PATIENCE = 256, 30.0
"""How many may wait for their turn, and for how many seconds; beyond either 503."""


class Turns(ASGIMiddleware):
    """Lets requests of routes with `hashes=True` pass a few at a time, in the order they came."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        handler = scope.get("route_handler")
        if not (handler and handler.opt.get("hashes")):
            await next_app(scope, receive, send)
            return
        await Request(scope, receive).body()  # kept for the handler: a client that sends slowly has no turn yet
        await self._wait()
        try:
            await next_app(scope, receive, send)
        finally:
            self._turns.release()

    async def _wait(self) -> None:
        if self._waiting >= WAITING:
            raise Unavailable
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable from None
        finally:
            self._waiting -= 1
