"""A fair queue: round robin over the organizations, and within each over its users. The items of one user stay in order.

A user with many items therefore delays only its own.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

Key = tuple[Hashable, Hashable]
"""A group and one of its members: an organization and a user. Without a caller, the group is "" and the member is an address."""


def is_anonymous(key: Key) -> bool:
    """Whether the key is that of an address, not of a user."""
    return key[0] == ""


class FairQueue(Generic[T]):
    """First in, first out for each member. Round robin over the members of a group, and over the groups."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, OrderedDict[Hashable, deque[T]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, key: Key, item: T) -> None:
        """Appends the item to the member's queue."""
        group, member = key
        self._groups.setdefault(group, OrderedDict()).setdefault(member, deque()).append(item)
        self._length += 1

    def pop(self, may: Callable[[Key], bool] | None = None) -> tuple[Key, T] | None:
        """Removes and returns the next item of a key that `may` accepts; None if there is none."""
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
        """Removes a waiting item. Does nothing if the item has left the queue."""
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
        """The number of the member's waiting items."""
        return len(self._of(key))

    def _of(self, key: Key) -> deque[T]:
        group = self._groups.get(key[0])
        return group.get(key[1], deque()) if group else deque()
