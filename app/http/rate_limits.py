"""Rate limits that all API processes share. They are counted in the database and leased in parts, so most requests need no query.

A process leases a part of the window's remaining requests: at most a twentieth of the limit, and less when fewer remain. The limit is
never exceeded. A request may be refused although another process has an unused part.
"""

import asyncio
import time
from collections.abc import Hashable
from math import ceil

from app.database import statements
from app.database.context import ContextSigner
from app.database.pool import Pool
from app.errors import AddressRateLimited, UserRateLimited

queries = statements.load("rate_limits")

WINDOW_S = 60
PARTS = 20
MAX_SUBJECTS = 10_000
"""Leases that a process keeps. Beyond this number, the oldest is dropped with its unused part."""


def rate_limit_headers(limit: int, window_s: int, remaining: int, reset_after_s: float) -> dict[str, str]:
    """The RateLimit-* headers."""
    return {
        "RateLimit-Limit": str(limit),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(max(1, ceil(reset_after_s))),
        "RateLimit-Policy": f"{limit};w={window_s}",
    }


class _Lease:
    """The requests that this process may still admit (`local`), and those left in the window (`remaining`)."""

    def __init__(self) -> None:
        self.local = self.remaining = 0
        self.ends_at = 0.0
        self.lock = asyncio.Lock()


class RateLimit:
    """The limit for one kind of subject: requests in a window of WINDOW_S; 0 is no limit."""

    def __init__(self, pool: Pool, signer: ContextSigner, kind: str, limit: int) -> None:
        self._pool = pool
        self._signer = signer
        self._kind = kind
        self._limit = limit
        self._leases: dict[Hashable, _Lease] = {}

    async def consume(self, subject: Hashable) -> dict[str, str]:
        """Counts one request and returns its RateLimit-* headers. Raises RateLimited beyond the limit."""
        if not self._limit:
            return {}
        lease = self._leases.get(subject) or self._new(subject)
        if lease.local == 0 or lease.ends_at <= time.monotonic():
            async with lease.lock:
                await self._renew(lease, subject)
        if lease.local == 0:
            headers = self._headers(lease)
            refusal = UserRateLimited if self._kind == "user" else AddressRateLimited
            raise refusal(headers=headers | {"Retry-After": headers["RateLimit-Reset"]})
        lease.local -= 1
        return self._headers(lease)

    def _headers(self, lease: _Lease) -> dict[str, str]:
        reset_after_s = lease.ends_at - time.monotonic()
        return rate_limit_headers(self._limit, WINDOW_S, lease.local + lease.remaining, reset_after_s)

    def _new(self, subject: Hashable) -> _Lease:
        if len(self._leases) >= MAX_SUBJECTS:
            del self._leases[next(iter(self._leases))]
        return self._leases.setdefault(subject, _Lease())

    async def _renew(self, lease: _Lease, subject: Hashable) -> None:
        """Leases the next part, unless another request has done so or the window is known to be used up."""
        if lease.ends_at > time.monotonic() and (lease.local or not lease.remaining):
            return
        is_new_window = lease.ends_at <= time.monotonic()
        want = max(1, (self._limit if is_new_window else lease.remaining) // PARTS)
        params = {"subject": f"{self._kind}:{subject}", "want": want, "limit": self._limit, "seconds": WINDOW_S}
        consume = self._signer.statement(queries.consume, params)
        key = (
            "",
            f"{self._kind}:{subject}",
        )  # its own key, so that it does not queue behind logins of the same address
        (((granted, remaining, reset_after_s, _),),) = await self._pool.fetch([consume], key=key)
        lease.local, lease.remaining = granted, remaining
        lease.ends_at = time.monotonic() + reset_after_s
