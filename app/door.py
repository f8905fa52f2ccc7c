"""Door: what a handler knows before there is a caller: the functions of the auth schema, and how often somebody may knock."""

from collections.abc import Callable
from typing import Any

from litestar.di import NamedDependency

from app import sql
from app.config import Settings
from app.db import Pool, Rows, Session, fetch
from app.errors import RateLimited
from app.sql import Query
from app.tokens import Caller

queries = sql.load("limits")

TRIES_AN_ACCOUNT, TRIES_AN_ADDRESS, TRIES_WITHIN = 10, 300, 300
"""Wrong passwords for one account, and from one address, within so many seconds."""


class Door:
    """One request's way in. session: what a caller gets who was let in; origin: what the audit trail keeps of the request."""

    def __init__(
        self, pool: Pool, settings: Settings, session: Callable[[Caller], Session], address: str, request_id: str
    ) -> None:
        self._pool = pool
        self._address = address
        self.session = session
        self.keys = settings.token_keys
        self.may_register = settings.registration == "open"
        self.origin = {"request_id": request_id, "address": address}

    async def rows(self, query: Query, **given: Any) -> Rows:
        """The rows of one statement without a context."""
        return (await fetch(self._pool, [(query.text(given), given)]))[0]

    async def throttle(self, email: str | None = None) -> None:
        """Counts a try for the address, and for the account whether it exists or not; RateLimited of one too many."""
        subjects = [(f"login from:{self._address}", TRIES_AN_ADDRESS)]
        if email is not None:
            subjects.append((f"login as:{email.lower()}", TRIES_AN_ACCOUNT))
        tries = [
            {"subject": subject, "want": 1, "limit": limit, "seconds": TRIES_WITHIN} for subject, limit in subjects
        ]
        results = await fetch(self._pool, [(queries.take.text(one), one) for one in tries])
        waits = [reset_after for ((granted, _, reset_after),) in results if not granted]
        if waits:
            raise RateLimited(headers={"Retry-After": str(int(max(waits)) + 1)})

    async def forgive(self, email: str) -> None:
        """The password was right: the account's tries are forgotten, and the address gets back the one it took."""
        await self.rows(queries.forgive, account=f"login as:{email.lower()}", address=f"login from:{self._address}")


Knock = NamedDependency[Door]
"""How a handler asks for it: `door: Knock`."""
