"""The concurrency limit: the number of requests of one user, organization and address that run in a process. Others wait.

Requests that hash a password have their own limit. Hashing uses the CPU, and each login makes five round trips and locks the counters
of its address. Without the limit, 200 logins at once would use all connections and half a second of the event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Hashable
from math import inf

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.database.fair_queue import FairQueue, Key
from app.errors import (
    LoginsOverloaded,
    OrganizationBusy,
    Overloaded,
    RateLimited,
    TooManyAtOnce,
    TooManyLogins,
    TooManyStreams,
)
from app.http.route_options import DEFAULT, options_of
from app.security.client_address import client_address, network

MAX_PER_USER, MAX_PER_ORGANIZATION, MAX_WAITING, MAX_WAIT_S = 16, 64, 256, 10.0
"""Running requests of one user and of one organization, waiting requests of one user, and their longest wait. Beyond these: 429."""
MAX_STREAMS_PER_USER, MAX_STREAMS_PER_ORGANIZATION = 2, 4
"""Running imports and exports. Each keeps the process busy with rows until it ends.

They do not count against MAX_PER_USER, so that the user's other requests need not wait for them.
"""
MAX_HASHING, MAX_HASHING_WAIT_S = 2, 30.0
"""Running requests that hash a password, and their longest wait. While one is hashed, the other queries the database."""


class FairSemaphore:
    """A fair semaphore with a limit for all, for each group and for each member.

    A member may have `max_waiting` waiters, for `timeout_s` each. Beyond that, acquire() raises `own` if the member itself has other
    running or waiting requests, else `others`.
    """

    def __init__(
        self,
        *,
        total: float = inf,
        per_group: float = inf,
        per_member: float = inf,
        max_waiting: int,
        timeout_s: float,
        own: type[RateLimited] = TooManyAtOnce,
        others: type[Overloaded] = OrganizationBusy,
    ) -> None:
        self.total, self.per_group, self.per_member = total, per_group, per_member
        self.max_waiting, self.timeout_s = max_waiting, timeout_s
        self._own, self._others = own, others
        self._groups: Counter[Hashable] = Counter()
        self._members: Counter[Hashable] = Counter()
        self._running = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def _has_capacity(self, key: Key) -> bool:
        return (
            self._members[key] < self.per_member
            and self._groups[key[0]] < self.per_group
            and self._running < self.total
        )

    def _count(self, key: Key, by: int) -> None:
        self._running += by
        _add(self._groups, key[0], by)
        _add(self._members, key, by)

    def try_acquire(self, key: Key) -> bool:
        """Acquires without waiting, if possible; returns whether it did. If so, release() must follow."""
        if self._queue.count(key) or not self._has_capacity(key):
            return False
        self._count(key, 1)
        return True

    async def acquire(self, key: Key) -> None:
        """Waits until the key may run. release() must follow."""
        if self.try_acquire(key):
            return
        if self._queue.count(key) >= self.max_waiting:
            raise self._refusal(key)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.push(key, waiter)
        try:
            async with asyncio.timeout(self.timeout_s):
                await waiter
        except BaseException as error:
            self._queue.drop(key, waiter)
            if waiter.done() and not waiter.cancelled():  # it was admitted at the same moment
                self.release(key)
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _refusal(self, key: Key) -> Exception:
        if self._members[key] or self._queue.count(key):
            return self._own(headers={"Retry-After": "1"})
        return self._others()

    def release(self, key: Key) -> None:
        """Releases one permit of the key and admits waiters."""
        self._count(key, -1)
        while self._queue and (entry := self._queue.pop(self._has_capacity)):
            other, waiter = entry
            if not waiter.done():  # a waiter that is done has timed out or was cancelled
                self._count(other, 1)
                waiter.set_result(None)


def _add(counts: Counter[Hashable], name: Hashable, by: int) -> None:
    counts[name] += by
    if not counts[name]:
        del counts[name]


class ConcurrencyLimit(ASGIMiddleware):
    """Limits the running requests of each user, and those of all routes with `limit_concurrency=True` together."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._hashing = FairSemaphore(
            total=MAX_HASHING,
            max_waiting=MAX_WAITING,
            timeout_s=MAX_HASHING_WAIT_S,
            own=TooManyLogins,
            others=LoginsOverloaded,
        )
        self._users = FairSemaphore(
            per_group=MAX_PER_ORGANIZATION, per_member=MAX_PER_USER, max_waiting=MAX_WAITING, timeout_s=MAX_WAIT_S
        )
        self._streams = FairSemaphore(
            per_group=MAX_STREAMS_PER_ORGANIZATION,
            per_member=MAX_STREAMS_PER_USER,
            max_waiting=MAX_WAITING,
            timeout_s=MAX_WAIT_S,
            own=TooManyStreams,
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
    """An acquired permit, which is released once."""

    def __init__(self, semaphore: FairSemaphore, key: Key) -> None:
        self._semaphore, self._key = semaphore, key
        self._released = False

    def release(self) -> None:
        """Releases the permit, unless that has happened."""
        if not self._released:
            self._released = True
            self._semaphore.release(self._key)

    def release_after_response(self, send: Send) -> Send:
        """A `send` that releases the permit with the end of the response.

        Background tasks run after that. Otherwise the delay of the next login would reveal that one ran.
        """

        async def send_and_release(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.release()

        return send_and_release
