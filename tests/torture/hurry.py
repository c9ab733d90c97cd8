"""A proxy whose clock runs faster than the machine's after SIGUSR1.

Usage: python -m tests.torture.hurry FACTOR, settings on stdin as for `python -m preflight_proxy`. Only the ages of calls and of
evidence grow faster. Waits for a connection or an answer take real seconds, also on a busy machine.
"""

from __future__ import annotations

import signal
import sys
import time

from preflight_proxy.__main__ import main
from preflight_proxy.base.clock import SystemClock
from tests.support.fake_clock import FakeClock


def hurrying_clock(factor: float) -> FakeClock:
    """Return a clock with the machine's time, which runs `factor` times as fast after SIGUSR1. For the main thread."""
    clock = FakeClock(time.time(), time.monotonic(), time.monotonic)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: clock.hurry(factor))
    return clock


if __name__ == "__main__":
    clock = hurrying_clock(float(sys.argv[1]))
    for name in ("epoch_s", "monotonic_s"):  # the product has no hook for this
        setattr(SystemClock, name, staticmethod(getattr(clock, name)))
    sys.exit(main())
