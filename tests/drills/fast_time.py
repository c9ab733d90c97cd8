"""An event loop and a clock on which time flies: half an hour passes in seconds, for everything that runs on them."""

from __future__ import annotations

import asyncio
import selectors
import time

FACTOR = 120
"""A time limit of ten seconds is still eighty milliseconds, which a busy machine keeps."""


class _FastSelector(selectors.DefaultSelector):
    """Waits for a moment of the fast loop, in our time."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / FACTOR if timeout else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds last a 120th."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        """Its seconds."""
        return super().time() * FACTOR


class FastClock:
    """The clock that goes with it."""

    def __init__(self) -> None:
        self._born_s = time.time()

    def epoch_s(self) -> float:
        """Seconds since the epoch, running ahead from now on."""
        return self._born_s + (time.time() - self._born_s) * FACTOR

    def monotonic_s(self) -> float:
        """Seconds of a stopwatch."""
        return time.monotonic() * FACTOR
