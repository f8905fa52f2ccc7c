"""Admission of calls to a pool's connections: classes of service, fair queues, and the average duration of each user's statements."""

from collections import Counter
from collections.abc import Hashable
from typing import Literal

from app.database.connection import Call
from app.database.fair_queue import FairQueue, Key, is_anonymous

MAX_QUICK_CALLS = 4
"""At most this many quick calls run at a time. More would only compete for CPU with each other and with the API process."""
RESERVED_FOR_OTHER_USERS, RESERVED_FOR_OTHER_ORGANIZATIONS = 2, 1
"""Connections of a class that one user leaves to others, and that one organization leaves to others.

Classes with fewer than twice RESERVED_FOR_OTHER_USERS connections reserve none.
"""
MAX_WAITING_CALLS = 256
"""Calls of one user or address that may wait in one class."""
REMEMBERED_COST_S, EXPENSIVE_COST_S = 0.01, 0.025
"""Average duration of a user's statement from which it is remembered, and from which it counts as expensive."""
MAX_REMEMBERED_COSTS = 1000
ServiceClass = Literal["quick", "expensive", "slow", "heavy"]


class Admission:
    """The waiting calls of one class of service, and the number of running ones: at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.queue: FairQueue[Call] = FairQueue()
        self.limit = max(1, limit)
        self.running = 0
        self.running_by: Counter[Hashable] = Counter()
        """The running calls by organization and by user."""

    def count(self, key: Key, by: int) -> None:
        """Counts a call of the key that acquired a connection (1) or released it (-1)."""
        self.running += by
        for name in (key, key[0]):
            self.running_by[name] += by
            if not self.running_by[name]:
                del self.running_by[name]

    def leaves_capacity(self, key: Key) -> bool:
        """Whether one more call of the key leaves the reserved connections to other users and organizations."""
        if self.limit < 2 * RESERVED_FOR_OTHER_USERS or is_anonymous(key):
            return True
        return (
            self.running_by[key] < self.limit - RESERVED_FOR_OTHER_USERS
            and self.running_by[key[0]] < self.limit - RESERVED_FOR_OTHER_ORGANIZATIONS
        )

    @property
    def has_capacity_and_calls(self) -> bool:
        """Whether a call waits and the class may run one more."""
        return self.running < self.limit and len(self.queue) > 0


class Costs:
    """The average duration of each user's statements, if it is at least REMEMBERED_COST_S."""

    def __init__(self) -> None:
        self._costs: dict[tuple[Key, str], float] = {}

    def __bool__(self) -> bool:
        return bool(self._costs)

    def add(self, call: Call, seconds: float) -> None:
        """Adds one measurement of the call's last statement to its moving average."""
        statement_key = (call.key, call.statements[-1][0])
        average = self._costs.pop(statement_key, 0.0)
        if (cost := average + (seconds - average) / 4) >= REMEMBERED_COST_S:
            if len(self._costs) >= MAX_REMEMBERED_COSTS:
                del self._costs[next(iter(self._costs))]
            self._costs[statement_key] = cost

    def is_expensive(self, call: Call) -> bool:
        """Whether the call's last statement takes EXPENSIVE_COST_S or longer on average for its user."""
        return bool(self._costs) and self._costs.get((call.key, call.statements[-1][0]), 0.0) >= EXPENSIVE_COST_S
