"""Whose turn it is: so many trials at once, in their order; one that a person stops does not wait for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """The places of a run's trials.

    Args:
        workers: How many trials go on at once; less than one counts as one.
    """

    def __init__(self, workers: int) -> None:
        self._places = asyncio.Semaphore(max(1, workers))
        self._reasons: dict[str, str] = {}
        self._stopped: dict[str, asyncio.Event] = {}

    def stop(self, alias: str, reason: str) -> None:
        """End a trial's wait, also one that has not begun yet."""
        self._reasons.setdefault(alias, reason)
        self._event(alias).set()

    def stopped(self, alias: str) -> str | None:
        """Return why a trial was stopped; None if it was not."""
        return self._reasons.get(alias)

    @asynccontextmanager
    async def turn(self, alias: str) -> AsyncIterator[None]:
        """Wait for a place and hold it; without one if the trial is stopped before, which `stopped` then tells."""
        place = asyncio.ensure_future(self._places.acquire())
        stop = asyncio.ensure_future(self._event(alias).wait())
        try:
            await asyncio.wait([place, stop], return_when=asyncio.FIRST_COMPLETED)
            if not place.done():
                place.cancel()
            yield
        finally:
            stop.cancel()
            if not place.cancel() and not place.cancelled():
                self._places.release()

    def _event(self, alias: str) -> asyncio.Event:
        return self._stopped.setdefault(alias, asyncio.Event())
