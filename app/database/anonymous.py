"""Door: what a handler knows before there is a caller: the functions of the auth schema, and how often somebody may knock."""

from collections.abc import Callable
from typing import Any

from litestar.di import NamedDependency

from app.config import Settings
from app.database import statements as sql
from app.database.connection import Rows
from app.database.context import Signer
from app.database.pool import Pool
from app.database.session import Session
from app.database.statements import Query
from app.errors import RateLimited
from app.http.rate_limits import described, network
from app.security.tokens import Caller

queries = sql.load("rate_limits")

TRIES_AN_ACCOUNT, TRIES_AN_ADDRESS, TRIES_WITHIN = 10, 300, 300
"""Wrong passwords for one account, and from one address, within so many seconds."""


class Door:
    """One request's way in. session: what a caller gets who was let in; origin: what the audit trail keeps of the request."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        signer: Signer,
        session: Callable[[Caller], Session],
        address: str,
        request_id: str,
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._network = network(address)
        self._key = ("", self._network)
        self._began: list[int] = []
        self.session = session
        self.keys = settings.token_keys
        self.refresh_keys = settings.refresh_keys()
        self.may_register = settings.registration == "open"
        self.origin = {"request_id": request_id, "address": address}

    async def rows(self, query: Query, **given: Any) -> Rows:
        """The rows of one statement without a context."""
        return (await self._pool.fetch([self._signer.statement(query, given)], key=self._key))[0]

    async def throttle(self, email: str | None = None) -> None:
        """Counts a try for the address, and for the account whether it exists or not; RateLimited of one too many."""
        subjects = [(f"login from:{self._network}", TRIES_AN_ADDRESS)]
        if email is not None:
            subjects.append((f"login as:{email}", TRIES_AN_ACCOUNT))
        tries = [
            {"subject": subject, "want": 1, "limit": limit, "seconds": TRIES_WITHIN} for subject, limit in subjects
        ]
        results = await self._pool.fetch([self._signer.statement(queries.take, one) for one in tries], key=self._key)
        self._began = [began for ((_, _, _, began),) in results]
        spent = [
            (reset_after, limit)
            for (_, limit), ((granted, _, reset_after, _),) in zip(subjects, results, strict=True)
            if not granted
        ]
        if spent:
            reset_after, limit = max(spent)
            headers = described(limit, TRIES_WITHIN, 0, reset_after)
            raise RateLimited(headers=headers | {"Retry-After": headers["RateLimit-Reset"]})

    async def forgive(self, email: str) -> None:
        """The password was right: the account and the address get back the try that throttle() took of their windows."""
        address_began, account_began = self._began
        given = {"account": f"login as:{email}", "address": f"login from:{self._network}"}
        await self.rows(queries.forgive, **given, account_began=account_began, address_began=address_began)


Knock = NamedDependency[Door]
"""How a handler asks for it: `door: Knock`."""
