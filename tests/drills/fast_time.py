"""An event loop and a clock that run 240 times as fast as the machine's: half an hour passes in seconds."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.fake_clock import FakeClock

FACTOR = 240
MINUTE_S = 60.0


class _FastSelector(selectors.DefaultSelector):
    """Counts the loop's seconds. They pass only while the loop waits, never while code runs.

    So a busy machine does not make a time limit expire before the work that it limits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began_s = time.monotonic()
        ready = super().select(timeout / FACTOR if timeout else timeout)
        passed_s = (time.monotonic() - began_s) * FACTOR
        self.now_s += passed_s if timeout is None else min(passed_s, timeout) if ready else timeout
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds last a 240th of a second."""

    def __init__(self) -> None:
        self._waits = _FastSelector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Seconds of this loop."""
        return self._waits.now_s


def play(drill: Callable[[FakeClock], Coroutine[Any, Any, None]]) -> None:
    """Run a drill on a fast loop; it is given the clock that goes with the loop."""

    async def with_clock() -> None:
        await drill(FakeClock(time.time(), source=asyncio.get_running_loop().time))

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(with_clock())
