"""Rate limits that all API processes share, counted in the database and leased in small parts, so that most requests cost nothing.

A process takes a part of what a window has left (a twentieth of the limit at most, less towards its end) and spends it by
itself. The limit is never exceeded; a part that lies unspent in another process when the rest is gone is the price.
"""

import asyncio
import time
from collections.abc import Hashable
from math import ceil

from app.database import statements
from app.database.context import ContextSigner
from app.database.pool import Pool
from app.errors import RateLimited

queries = statements.load("rate_limits")

WINDOW_S = 60
PARTS = 20
MAX_SUBJECTS = 10_000
"""Leases that a process keeps; beyond it the oldest goes, with what it had left."""


def rate_limit_headers(limit: int, window: int, remaining: int, reset_after: float) -> dict[str, str]:
    """The RateLimit-* headers."""
    return {
        "RateLimit-Limit": str(limit),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(max(1, ceil(reset_after))),
        "RateLimit-Policy": f"{limit};w={window}",
    }


class _Lease:
    def __init__(self) -> None:
        self.local = self.remaining = 0
        self.ends = 0.0
        self.lock = asyncio.Lock()


class RateLimit:
    """The limit of one kind of subject, so many requests a window; 0 is no limit."""

    def __init__(self, pool: Pool, signer: ContextSigner, kind: str, limit: int) -> None:
        self._pool = pool
        self._signer = signer
        self._kind = kind
        self._limit = limit
        self._leases: dict[Hashable, _Lease] = {}

    async def consume(self, subject: Hashable) -> dict[str, str]:
        """The RateLimit-* headers of a request that may pass; RateLimited of one too many."""
        if not self._limit:
            return {}
        lease = self._leases.get(subject) or self._new(subject)
        if lease.local == 0 or lease.ends <= time.monotonic():
            async with lease.lock:
                await self._renew(lease, subject)
        if lease.local == 0:
            headers = self._headers(lease)
            raise RateLimited(headers=headers | {"Retry-After": headers["RateLimit-Reset"]})
        lease.local -= 1
        return self._headers(lease)

    def _headers(self, lease: _Lease) -> dict[str, str]:
        return rate_limit_headers(self._limit, WINDOW_S, lease.local + lease.remaining, lease.ends - time.monotonic())

    def _new(self, subject: Hashable) -> _Lease:
        if len(self._leases) >= MAX_SUBJECTS:
            del self._leases[next(iter(self._leases))]
        return self._leases.setdefault(subject, _Lease())

    async def _renew(self, lease: _Lease, subject: Hashable) -> None:
        """Takes the next part, unless another request has or the window is known to be spent."""
        if lease.ends > time.monotonic() and (lease.local or not lease.remaining):
            return
        fresh = lease.ends <= time.monotonic()
        want = max(1, (self._limit if fresh else lease.remaining) // PARTS)
        given = {"subject": f"{self._kind}:{subject}", "want": want, "limit": self._limit, "seconds": WINDOW_S}
        consume = self._signer.statement(queries.consume, given)
        key = ("", f"{self._kind}:{subject}")  # not behind the logins of the same address
        (((granted, remaining, reset_after, _),),) = await self._pool.fetch([consume], key=key)
        lease.local, lease.remaining = granted, remaining
        lease.ends = time.monotonic() + reset_after
