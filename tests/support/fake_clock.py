"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Calendar and stopwatch advance together, by hand."""

    def __init__(self, epoch_s: float = 1_760_000_000.0, monotonic_s: float = 0.0) -> None:
        self._epoch_s = epoch_s
        self._monotonic_s = monotonic_s

    def epoch_s(self) -> float:
        return self._epoch_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._epoch_s += seconds
        self._monotonic_s += seconds
