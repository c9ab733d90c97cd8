"""A dict of limited size that forgets the least recently used item first."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Lru(OrderedDict[Key, Value]):
    """A dict of at most `items_max` items. Threads may share it.

    Args:
        items_max: How many items are kept.
    """

    def __init__(self, items_max: int) -> None:
        super().__init__()
        self._items_max = items_max

    def recall(self, key: Key) -> Value | None:
        """Return an item, which is the most recently used from then on; None if there is none."""
        value = self.get(key)
        if value is not None:
            with suppress(KeyError):  # another thread has removed it meanwhile
                self.move_to_end(key)
        return value

    def remember(self, key: Key, value: Value) -> None:
        """Store an item as the most recently used one."""
        self[key] = value
        with suppress(KeyError):
            self.move_to_end(key)
            if len(self) > self._items_max:
                self.popitem(last=False)
