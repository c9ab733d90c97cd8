"""What happened, in order, for those who follow: the stream of events behind `GET /events`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

EVENTS_KEPT = 10_000
"""A follower that reconnects gets what it missed, up to this many events: minutes of the busiest run."""

Event = Mapping[str, object]


class Hub:
    """An ordered, bounded log of events with any number of followers."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._seq = 0
        self._more = asyncio.Event()

    def publish(self, kind: str, account: str, **fields: object) -> None:
        """Append one event; every follower of the account's run wakes."""
        self._seq += 1
        self._kept.append({"seq": self._seq, "type": kind, "account": account, **fields})
        self._more.set()
        self._more = asyncio.Event()

    async def follow(self, cursor: int, every_s: float) -> AsyncIterator[Event | None]:
        """Yield every kept event after `cursor`, then each new one; None when `every_s` seconds brought nothing."""
        while True:
            more = self._more
            for event in [kept for kept in self._kept if int(str(kept["seq"])) > cursor]:
                cursor = int(str(event["seq"]))
                yield event
            if more is not self._more:
                continue
            try:
                await asyncio.wait_for(more.wait(), every_s)
            except TimeoutError:
                yield None
