"""A queue that is fair between accounts: an account with large items does not delay those with small ones.

Each item has a start and an end on a scale of cost. It starts where its account's last item ended, or where the item being served
started, if that is later. The item with the least end is next. So a small item waits only for the one being served, and no item
waits for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Waiting items by account, in order of arrival within each."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, int, Item]]] = {}
        self._ends: dict[str, int] = {}
        self._now = 0

    def push(self, account: str, item: Item, cost: int) -> None:
        """Add an item of about this cost, in any unit."""
        start = max(self._ends.get(account, 0), self._now)
        self._ends[account] = start + cost
        self._waiting.setdefault(account, deque()).append((start + cost, start, item))

    def pop(self) -> Item | None:
        """Remove and return the next item; None if the queue is empty, which also resets the scale."""
        if not self._waiting:
            self._ends.clear()
            self._now = 0
            return None
        account = min(self._waiting, key=lambda name: self._waiting[name][0][0])
        waiting = self._waiting[account]
        _end, start, item = waiting.popleft()
        self._now = max(self._now, start)
        if not waiting:
            del self._waiting[account]
        return item
