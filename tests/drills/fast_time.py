"""An event loop and a clock on which time flies: half an hour passes in seconds, for everything that runs on them."""

from __future__ import annotations

import asyncio
import selectors
import time

FACTOR = 240


class _FastSelector(selectors.DefaultSelector):
    """Waits for a moment of the fast loop, in our time; the loop's seconds pass in these waits, and nowhere else.

    So a machine that is busy, or does something else meanwhile, does not let a time limit pass before what it limits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began_s = time.monotonic()
        found = super().select(timeout / FACTOR if timeout else timeout)
        passed_s = (time.monotonic() - began_s) * FACTOR
        self.now_s += passed_s if timeout is None else min(passed_s, timeout) if found else timeout
        return found


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds last a 240th."""

    def __init__(self) -> None:
        self._waits = _FastSelector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Its seconds."""
        return self._waits.now_s


class FastClock:
    """The clock that goes with it.

    Args:
        loop: The loop on which the time passes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._born_s = time.time()
        self._loop = loop

    def epoch_s(self) -> float:
        """Seconds since the epoch, running ahead from now on."""
        return self._born_s + self._loop.time()

    def monotonic_s(self) -> float:
        """Seconds of a stopwatch."""
        return self._loop.time()
