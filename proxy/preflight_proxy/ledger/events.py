"""The stream of events behind `GET /events`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from itertools import islice
from typing import Any

from preflight_proxy.base.control_messages import LedgerEvent

LEDGER_EVENTS_KEPT = 10_000
"""A follower that reconnects gets what it missed, up to this many events: minutes of the busiest run."""


class Events:
    """An ordered, bounded log of events with any number of followers.

    Args:
        first_seq: Number of the first event. A process that follows another begins above it, so that an old cursor hides nothing.
        wanted: A runner will follow, so every event is kept for it from the start.

    Attributes:
        wanted: Somebody follows, or has followed. Before that, who has an event of a call need not build it.
    """

    def __init__(self, first_seq: int = 1, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self._kept: deque[LedgerEvent] = deque(maxlen=LEDGER_EVENTS_KEPT)
        self._next_seq = first_seq
        self._more = asyncio.Event()

    def publish(self, kind: str, account: str, **facts: Any) -> None:  # noqa: ANN401 - `LedgerEvent` knows them
        """Append an event with these fields of `LedgerEvent`, and wake every follower."""
        self._kept.append(LedgerEvent(type=kind, seq=self._next_seq, account=account, **facts))
        self._next_seq += 1
        self._more.set()
        self._more = asyncio.Event()

    def follow(self, cursor: int, every_s: float) -> AsyncGenerator[LedgerEvent | None, None]:
        """Yield every kept event after `cursor`, then each new one; None when `every_s` seconds brought nothing.

        A cursor above the last event comes from another process: then all kept events are yielded.
        """
        self.wanted = True
        return self._follow(cursor, every_s)

    async def _follow(self, cursor: int, every_s: float) -> AsyncGenerator[LedgerEvent | None, None]:
        if cursor >= self._next_seq:
            cursor = 0
        while True:
            more = self._more
            for event in self._after(cursor):
                cursor = event.seq
                yield event
            if more is not self._more:
                continue
            try:
                await asyncio.wait_for(more.wait(), every_s)
            except TimeoutError:
                yield None

    def _after(self, cursor: int) -> list[LedgerEvent]:
        """The kept events after a cursor; their numbers have no gaps."""
        count = min(self._next_seq - 1 - cursor, len(self._kept))
        return list(islice(reversed(self._kept), count))[::-1]
