"""Whose turn is next where one thing serves many: nobody who takes much delays those who take little.

Each item has a start and an end on a scale of cost: it starts where its account's last one ended, or where the one being served
started if that is later; the least end is next. So who comes with something small waits for the turn that is served, however many
others wait with something large, and nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """What waits, by account; in the order of coming within each."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, int, Item]]] = {}
        self._ends: dict[str, int] = {}
        self._now = 0

    def push(self, account: str, item: Item, cost: int) -> None:
        """Have an item wait that takes about so much, in any unit."""
        start = max(self._ends.get(account, 0), self._now)
        self._ends[account] = start + cost
        self._waiting.setdefault(account, deque()).append((start + cost, start, item))

    def pop(self) -> Item | None:
        """Take the item that is next; None if none waits, and then nothing is remembered of those before."""
        if not self._waiting:
            self._ends.clear()
            self._now = 0
            return None
        account = min(self._waiting, key=lambda each: self._waiting[each][0][0])
        waiting = self._waiting[account]
        _end, start, item = waiting.popleft()
        self._now = max(self._now, start)
        if not waiting:
            del self._waiting[account]
        return item
