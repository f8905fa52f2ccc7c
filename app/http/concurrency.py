"""Turns: how many requests of one user, one organization and one address are under way in a process; the others wait.

Requests that need a password hashed have turns of their own: hashing takes the CPU, and every login makes five round trips and locks the
counters of its address. Two hundred at once would take all connections and half a second of the event loop from those who are logged in.
"""

import asyncio
from collections import Counter
from collections.abc import Hashable
from math import inf

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.database.fair_queue import FairQueue, Key
from app.errors import RateLimited, Unavailable
from app.http.route_options import DEFAULT, options_of
from app.security.client_address import client_address, network

MAX_PER_USER, MAX_PER_ORGANIZATION, MAX_WAITING, MAX_WAIT_S = 16, 64, 256, 10.0
"""Requests under way; how many of one user may wait for their turn, and for how many seconds. Beyond either 429."""
MAX_STREAMS_PER_USER, MAX_STREAMS_PER_ORGANIZATION = 2, 4
"""Imports and exports under way: each keeps the process busy with rows as long as it lasts. They don't count as the user's requests, which
would wait for them."""
MAX_HASHING, MAX_HASHING_WAIT_S = 2, 30.0
"""Requests under way that need a hash, in order of their addresses: one is hashed while the other asks the database."""


class FairSemaphore:
    """Lets so many pass at a time: of all, of a group, of a member. Others wait, up to `waiting` of a member, for `patience` seconds.

    Then RateLimited where the member has others under way or waiting, which are what it waits for; else Unavailable.
    """

    def __init__(
        self, *, total: float = inf, per_group: float = inf, per_member: float = inf, max_waiting: int, timeout_s: float
    ) -> None:
        self.total, self.per_group, self.per_member = total, per_group, per_member
        self.max_waiting, self.timeout_s = max_waiting, timeout_s
        self._groups: Counter[Hashable] = Counter()
        self._members: Counter[Hashable] = Counter()
        self._passed = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def _has_capacity(self, key: Key) -> bool:
        return (
            self._members[key] < self.per_member and self._groups[key[0]] < self.per_group and self._passed < self.total
        )

    def _count(self, key: Key, by: int) -> None:
        self._passed += by
        _add(self._groups, key[0], by)
        _add(self._members, key, by)

    def try_acquire(self, key: Key) -> bool:
        """Whether it has passed at once: then leave() has to follow, and enter() must not."""
        if self._queue.count(key) or not self._has_capacity(key):
            return False
        self._count(key, 1)
        return True

    async def acquire(self, key: Key) -> None:
        """Comes back when it may pass; leave() has to follow."""
        if self.try_acquire(key):
            return
        if self._queue.count(key) >= self.max_waiting:
            raise self._refusal(key)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.push(key, turn)
        try:
            async with asyncio.timeout(self.timeout_s):
                await turn
        except BaseException as error:
            self._queue.drop(key, turn)
            if turn.done() and not turn.cancelled():  # its turn came at the same moment
                self.release(key)
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _refusal(self, key: Key) -> Exception:
        if self._members[key] or self._queue.count(key):
            return RateLimited(headers={"Retry-After": "1"})
        return Unavailable()

    def release(self, key: Key) -> None:
        """The next ones pass."""
        self._count(key, -1)
        while self._queue and (found := self._queue.pop(self._has_capacity)):
            other, turn = found
            if not turn.done():  # else it has just been given up
                self._count(other, 1)
                turn.set_result(None)


def _add(counts: Counter[Hashable], name: Hashable, by: int) -> None:
    counts[name] += by
    if not counts[name]:
        del counts[name]


class ConcurrencyLimit(ASGIMiddleware):
    """Lets a few requests of each user pass at a time, and of routes with `hashes=True` a few in all."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._hashing = FairSemaphore(total=MAX_HASHING, max_waiting=MAX_WAITING, timeout_s=MAX_HASHING_WAIT_S)
        self._users = FairSemaphore(
            per_group=MAX_PER_ORGANIZATION, per_member=MAX_PER_USER, max_waiting=MAX_WAITING, timeout_s=MAX_WAIT_S
        )
        self._streams = FairSemaphore(
            per_group=MAX_STREAMS_PER_ORGANIZATION,
            per_member=MAX_STREAMS_PER_USER,
            max_waiting=MAX_WAITING,
            timeout_s=MAX_WAIT_S,
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        handler = scope.get("route_handler")
        caller = scope.get("auth")
        key: Key
        options = options_of(handler) if handler else DEFAULT
        if options.limit_concurrency:
            semaphore, key = self._hashing, (network(client_address(scope)), "")
        elif caller:
            semaphore = self._streams if options.produces else self._users
            key = caller.key
        else:
            await next_app(scope, receive, send)
            return
        if not semaphore.try_acquire(key):
            await semaphore.acquire(key)
        permit = _Permit(semaphore, key)
        try:
            await next_app(scope, receive, permit.release_after_response(send) if semaphore is self._hashing else send)
        finally:
            permit.release()


class _Permit:
    """A place that was taken, given back once."""

    def __init__(self, semaphore: FairSemaphore, key: Key) -> None:
        self._semaphore, self._key = semaphore, key
        self._released = False

    def release(self) -> None:
        """The next one passes."""
        if not self._released:
            self._released = True
            self._semaphore.release(self._key)

    def release_after_response(self, send: Send) -> Send:
        """Ends with the answer, not with what is done after it: by the time of the next turn it would tell what that was."""

        async def ending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.release()

        return ending
