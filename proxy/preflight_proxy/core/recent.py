"""A mapping of limited size that forgets what was not used for long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Keeps the items that were used last: at most `items_max`, and always the last half of that.

    Items are in two generations. When the younger one is full, the older one is dropped, so a use costs no reordering.

    Args:
        items_max: How many items are kept at most; 2 or more.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, items_max: int) -> None:
        self._half = items_max // 2
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """Return an item, which counts as used; None if there is none."""
        value = self._young.get(key)
        if value is None and self._old and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def get_all(self, keys: Sequence[Key]) -> list[Value | None]:
        """Return an item for each key as `get` does. No item may be false."""
        values = list(map(self._young.get, keys))
        if self._old and not all(values):
            return [value or self.get(key) for key, value in zip(keys, values, strict=True)]
        return values

    def put(self, key: Key, value: Value) -> None:
        """Store an item, in place of one with the same key."""
        if len(self._young) >= self._half and key not in self._young:
            self._old, self._young = self._young, {}
        if key in self._old:
            self._old.pop(key, None)
        self._young[key] = value

    def forget(self, key: Key) -> None:
        """Remove an item. It is no error if there is none."""
        for items in (self._young, self._old):
            if key in items:
                items.pop(key, None)
