"""Taking turns: organization by organization, in each user by user, in the order each user's came. One that asks a lot waits for itself."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

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

    def count(self, key: Key) -> int:
        """How many of this member's wait."""
        return len(self._of(key))

    def _of(self, key: Key) -> deque[T]:
        group = self._groups.get(key[0])
        return group.get(key[1], deque()) if group else deque()
