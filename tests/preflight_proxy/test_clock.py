"""The machine's clocks are what they say: a calendar and a stopwatch."""

import time

from preflight_proxy.clock import Clock, SystemClock


def test_the_calendar_counts_from_1970() -> None:
    clock: Clock = SystemClock()
    before_s = time.time()
    assert before_s <= clock.epoch_s() <= time.time()


def test_the_stopwatch_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic_s() for _ in range(1000)]
    assert readings == sorted(readings)
