"""A clock that runs as the machine's does until it is told to hurry; and a proxy on it.

Usage: python -m tests.torture.hurry FACTOR, settings on stdin as for `python -m preflight_proxy`. It hurries from SIGUSR1 on. Only
the ages of calls and of evidence do: who waits for a connection or an answer waits in real seconds, also on a busy machine.
"""

from __future__ import annotations

import signal
import sys
import time

from preflight_proxy.__main__ import main
from preflight_proxy.base.clock import SystemClock


class HurryClock:
    """The machine's time; once hurried, its seconds last the `factor`th part.

    Args:
        factor: How much faster than time it goes then.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._ahead_s = time.time() - time.monotonic()
        self._hurried_s: float | None = None

    @property
    def hurries(self) -> bool:
        """Whether it goes faster than time."""
        return self._hurried_s is not None

    def hurry(self) -> None:
        """Go faster from this moment on."""
        if self._hurried_s is None:
            self._hurried_s = time.monotonic()

    def hurry_at_signal(self) -> None:
        """Go faster from SIGUSR1 on; called in the main thread."""
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self.hurry())

    def epoch_s(self) -> float:
        """Seconds since the epoch, later than those of others once hurried."""
        return self._ahead_s + self.monotonic_s()

    def monotonic_s(self) -> float:
        """Seconds of a stopwatch."""
        now_s = time.monotonic()
        return now_s if self._hurried_s is None else now_s + (now_s - self._hurried_s) * (self._factor - 1)


if __name__ == "__main__":
    clock = HurryClock(float(sys.argv[1]))
    clock.hurry_at_signal()
    for name in ("epoch_s", "monotonic_s"):  # the product has no hook for this
        setattr(SystemClock, name, staticmethod(getattr(clock, name)))
    sys.exit(main())
