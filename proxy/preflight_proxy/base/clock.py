"""The machine's clocks. All other code takes a clock as an argument, so that tests can control time."""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

_STOPWATCH: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None))
"""The clock that goes on while the machine sleeps, on Linux and on macOS, where `time.monotonic` stands still.

Source: clock_gettime(2) of Linux; clock_gettime(3) of macOS, where `time.monotonic` is mach_absolute_time.
"""


class Clock(Protocol):
    """Two clocks in one: the calendar for records, the stopwatch for ages and waiting."""

    def epoch_s(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary moment; never goes back, and goes on while the machine sleeps."""


class SystemClock:
    """The machine's clocks."""

    epoch_s = staticmethod(time.time)  # noqa: TID251 - read here alone
    """Seconds since 1970-01-01 UTC; may jump."""
    monotonic_s = staticmethod(time.monotonic if _STOPWATCH is None else partial(time.clock_gettime, _STOPWATCH))
    """Seconds from an arbitrary moment; never goes back, and goes on in sleep where the system has such a clock."""
