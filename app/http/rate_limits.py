"""Rate limits that all API processes share, counted in the database and leased in small parts, so that most requests cost nothing.

A process takes a part of what a window has left (a twentieth of the limit at most, less towards its end) and spends it by
itself. The limit is never exceeded; a part that lies unspent in another process when the rest is gone is the price.
"""

import asyncio
import time
from collections.abc import Hashable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from math import ceil

from app.database import statements as sql
from app.database.context import Signer
from app.database.pool import Pool
from app.errors import RateLimited

queries = sql.load("rate_limits")

WINDOW = 60
"""Seconds."""
PARTS = 20
KEPT = 10_000
"""Leases that a process keeps; beyond it the oldest goes, with what it had left."""


def described(limit: int, window: int, remaining: int, reset_after: float) -> dict[str, str]:
    """The RateLimit-* headers."""
    return {
        "RateLimit-Limit": str(limit),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(max(1, ceil(reset_after))),
        "RateLimit-Policy": f"{limit};w={window}",
    }


@lru_cache(maxsize=KEPT)
def network(address: str) -> str:
    """What is counted as one address: of IPv6 the /64, since a household has as many addresses as it likes."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address


class _Lease:
    def __init__(self) -> None:
        self.left = self.beyond = 0
        self.ends = 0.0
        self.lock = asyncio.Lock()


class Limits:
    """The limit of one kind of subject, so many requests a window; 0 is no limit."""

    def __init__(self, pool: Pool, signer: Signer, kind: str, limit: int) -> None:
        self._pool = pool
        self._signer = signer
        self._kind = kind
        self._limit = limit
        self._leases: dict[Hashable, _Lease] = {}

    async def take(self, subject: Hashable) -> dict[str, str]:
        """The RateLimit-* headers of a request that may pass; RateLimited of one too many."""
        if not self._limit:
            return {}
        lease = self._leases.get(subject) or self._new(subject)
        if lease.left == 0 or lease.ends <= time.monotonic():
            async with lease.lock:
                await self._renew(lease, subject)
        if lease.left == 0:
            headers = self._headers(lease)
            raise RateLimited(headers=headers | {"Retry-After": headers["RateLimit-Reset"]})
        lease.left -= 1
        return self._headers(lease)

    def _headers(self, lease: _Lease) -> dict[str, str]:
        return described(self._limit, WINDOW, lease.left + lease.beyond, lease.ends - time.monotonic())

    def _new(self, subject: Hashable) -> _Lease:
        if len(self._leases) >= KEPT:
            del self._leases[next(iter(self._leases))]
        return self._leases.setdefault(subject, _Lease())

    async def _renew(self, lease: _Lease, subject: Hashable) -> None:
        """Takes the next part, unless another request has or the window is known to be spent."""
        if lease.ends > time.monotonic() and (lease.left or not lease.beyond):
            return
        fresh = lease.ends <= time.monotonic()
        want = max(1, (self._limit if fresh else lease.beyond) // PARTS)
        given = {"subject": f"{self._kind}:{subject}", "want": want, "limit": self._limit, "seconds": WINDOW}
        take = self._signer.statement(queries.take, given)
        key = ("", f"{self._kind}:{subject}")  # not behind the logins of the same address
        (((granted, remaining, reset_after, _),),) = await self._pool.fetch([take], key=key)
        lease.left, lease.beyond = granted, remaining
        lease.ends = time.monotonic() + reset_after
