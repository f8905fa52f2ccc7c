"""Admission of calls to the connections of a pool: classes of service, fair queues, and what a statement costs a user on average."""

from collections import Counter
from collections.abc import Hashable
from typing import Literal

from app.database.connection import Call
from app.database.fair_queue import FairQueue, Key, is_anonymous

MAX_QUICK_CALLS = 4
"""More calls at a time than cores only compete for them, with each other and with the API's own process."""
RESERVED_FOR_OTHER_USERS, RESERVED_FOR_OTHER_ORGANIZATIONS = 2, 1
"""Connections for writes that one user, and one organization, leave to others, where the class has at least twice as many."""
MAX_WAITING_CALLS = 256
"""Calls of one user or address that may wait in a class."""
REMEMBERED_COST_S, EXPENSIVE_COST_S = 0.01, 0.025
"""Average time of a user's statement from which on it is remembered, and from which on it counts as expensive."""
MAX_REMEMBERED_COSTS = 1000
ServiceClass = Literal["quick", "expensive", "slow", "heavy"]


class Admission:
    """The calls of one class of service that wait for a connection, and how many have one: at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.queue: FairQueue[Call] = FairQueue()
        self.limit = max(1, limit)
        self.running = 0
        self.running_by: Counter[Hashable] = Counter()
        """The running calls by organization and by user."""

    def count(self, key: Key, by: int) -> None:
        """Counts a call of the key that got a connection (1) or returned it (-1)."""
        self.running += by
        for name in (key, key[0]):
            self.running_by[name] += by
            if not self.running_by[name]:
                del self.running_by[name]

    def leaves_capacity(self, key: Key) -> bool:
        """Whether one more call of the key would leave connections to other users and to other organizations."""
        if self.limit < 2 * RESERVED_FOR_OTHER_USERS or is_anonymous(key):
            return True
        return (
            self.running_by[key] < self.limit - RESERVED_FOR_OTHER_USERS
            and self.running_by[key[0]] < self.limit - RESERVED_FOR_OTHER_ORGANIZATIONS
        )

    @property
    def has_capacity_and_calls(self) -> bool:
        """Whether a call waits and the class has room for it."""
        return self.running < self.limit and len(self.queue) > 0


class Costs:
    """The average time of each user's statements, as far as it is long enough to be remembered."""

    def __init__(self) -> None:
        self._costs: dict[tuple[Key, str], float] = {}

    def __bool__(self) -> bool:
        return bool(self._costs)

    def add(self, call: Call, seconds: float) -> None:
        """Adds one measurement of the call's last statement to its moving average."""
        about = (call.key, call.statements[-1][0])
        known = self._costs.pop(about, 0.0)
        if (cost := known + (seconds - known) / 4) >= REMEMBERED_COST_S:
            if len(self._costs) >= MAX_REMEMBERED_COSTS:
                del self._costs[next(iter(self._costs))]
            self._costs[about] = cost

    def is_expensive(self, call: Call) -> bool:
        """Whether the call's last statement takes its user EXPENSIVE_COST_S or longer on average."""
        return bool(self._costs) and self._costs.get((call.key, call.statements[-1][0]), 0.0) >= EXPENSIVE_COST_S
