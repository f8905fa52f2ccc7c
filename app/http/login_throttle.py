"""The limit on login attempts, for each account and for each client network."""

from app.database import statements
from app.database.anonymous import AnonymousSession
from app.errors import TooManyLoginAttempts
from app.http.rate_limits import rate_limit_headers

queries = statements.load("rate_limits")

MAX_ATTEMPTS_PER_ACCOUNT, MAX_ATTEMPTS_PER_ADDRESS, ATTEMPT_WINDOW_S = 10, 300, 300
"""Wrong passwords accepted for one account, and from one network, in one window."""


class LoginThrottle:
    """Counts the login attempts of one request."""

    def __init__(self, session: AnonymousSession, network: str) -> None:
        self._session = session
        self._network = network
        self._windows: list[int] = []

    async def count_login_attempt(self, email: str | None = None) -> None:
        """Counts an attempt for the network and the account, which need not exist. Raises TooManyLoginAttempts beyond a limit."""
        subjects = [(f"login from:{self._network}", MAX_ATTEMPTS_PER_ADDRESS)]
        if email is not None:
            subjects.append((f"login as:{email}", MAX_ATTEMPTS_PER_ACCOUNT))
        attempts = [
            {"subject": subject, "want": 1, "limit": limit, "seconds": ATTEMPT_WINDOW_S} for subject, limit in subjects
        ]
        results = await self._session.repeated(queries.consume, attempts)
        self._windows = [window for ((_, _, _, window),) in results]
        exceeded = [
            (reset_after_s, limit)
            for (_, limit), ((granted, _, reset_after_s, _),) in zip(subjects, results, strict=True)
            if not granted
        ]
        if exceeded:
            reset_after_s, limit = max(exceeded)
            headers = rate_limit_headers(limit, ATTEMPT_WINDOW_S, 0, reset_after_s)
            raise TooManyLoginAttempts(headers=headers | {"Retry-After": headers["RateLimit-Reset"]})

    async def refund_login_attempt(self, email: str) -> None:
        """Refunds the counted attempt of the account and the network, because the password was correct."""
        address_window, account_window = self._windows
        subjects = {"account": f"login as:{email}", "address": f"login from:{self._network}"}
        await self._session.rows(
            queries.refund, **subjects, account_window=account_window, address_window=address_window
        )
