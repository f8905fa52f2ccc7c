"""Taking turns: organization by organization, in each user by user, in the order each user's came. One that asks a lot waits for itself."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Generic, TypeVar

from app.errors import RateLimited, Unavailable

T = TypeVar("T")

Key = tuple[Hashable, Hashable]
"""A group and one of its members: an organization and a user. The group of those who are not logged in is "", by address."""


def is_anonymous(key: Key) -> bool:
    """Whether it is an address's."""
    return key[0] == ""


class FairQueue(Generic[T]):
    """First in, first out for each member; members of a group take turns, and so do groups."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, OrderedDict[Hashable, deque[T]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, key: Key, item: T) -> None:
        """To the end of its member's."""
        group, member = key
        self._groups.setdefault(group, OrderedDict()).setdefault(member, deque()).append(item)
        self._length += 1

    def pop(self, may: Callable[[Key], bool] | None = None) -> tuple[Key, T] | None:
        """The next one among those that may; None where there is none of them."""
        for group, members in self._groups.items():
            for member, items in members.items():
                if may is None or may((group, member)):
                    item = items.popleft()
                    self._length -= 1
                    del members[member], self._groups[group]
                    if items:
                        members[member] = items
                    if members:
                        self._groups[group] = members
                    return (group, member), item
        return None

    def drop(self, key: Key, item: T) -> None:
        """It does not wait any more; nothing happens where its turn has come."""
        items = self._of(key)
        if item not in items:
            return
        items.remove(item)
        self._length -= 1
        group, member = key
        if not items:
            del self._groups[group][member]
        if not self._groups[group]:
            del self._groups[group]

    def waiting(self, key: Key) -> int:
        """How many of this member's wait."""
        return len(self._of(key))

    def _of(self, key: Key) -> deque[T]:
        group = self._groups.get(key[0])
        return group.get(key[1], deque()) if group else deque()


class Gate:
    """Lets so many pass at a time: of all, of a group, of a member. Others wait, up to `waiting` of a member, for `patience` seconds.

    Then RateLimited where the member has others under way or waiting, which are what it waits for; else Unavailable.
    """

    def __init__(
        self, *, in_all: float = inf, of_group: float = inf, of_member: float = inf, waiting: int, patience: float
    ) -> None:
        self.in_all, self.of_group, self.of_member = in_all, of_group, of_member
        self.waiting, self.patience = waiting, patience
        self._groups: Counter[Hashable] = Counter()
        self._members: Counter[Hashable] = Counter()
        self._passed = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    def _may(self, key: Key) -> bool:
        return (
            self._members[key] < self.of_member and self._groups[key[0]] < self.of_group and self._passed < self.in_all
        )

    def _count(self, key: Key, by: int) -> None:
        self._passed += by
        _add(self._groups, key[0], by)
        _add(self._members, key, by)

    def may_enter(self, key: Key) -> bool:
        """Whether it has passed at once: then leave() has to follow, and enter() must not."""
        if self._queue.waiting(key) or not self._may(key):
            return False
        self._count(key, 1)
        return True

    async def enter(self, key: Key) -> None:
        """Comes back when it may pass; leave() has to follow."""
        if self.may_enter(key):
            return
        if self._queue.waiting(key) >= self.waiting:
            raise self._refusal(key)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.push(key, turn)
        try:
            async with asyncio.timeout(self.patience):
                await turn
        except BaseException as error:
            self._queue.drop(key, turn)
            if turn.done() and not turn.cancelled():  # its turn came at the same moment
                self.leave(key)
            if isinstance(error, TimeoutError):
                raise self._refusal(key) from None
            raise

    def _refusal(self, key: Key) -> Exception:
        if self._members[key] or self._queue.waiting(key):
            return RateLimited(headers={"Retry-After": "1"})
        return Unavailable()

    def leave(self, key: Key) -> None:
        """The next ones pass."""
        self._count(key, -1)
        while self._queue and (found := self._queue.pop(self._may)):
            other, turn = found
            if not turn.done():  # else it has just been given up
                self._count(other, 1)
                turn.set_result(None)


def _add(counts: Counter[Hashable], name: Hashable, by: int) -> None:
    counts[name] += by
    if not counts[name]:
        del counts[name]
