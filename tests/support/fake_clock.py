"""The one clock of all tests: it moves when a test moves it, or follows another clock, faster if asked."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Calendar and stopwatch, which advance together.

    Args:
        epoch_s: The calendar at the start.
        monotonic_s: The stopwatch at the start.
        source: Seconds that this clock follows, such as `time.monotonic`; without one it moves by `advance` only.
    """

    def __init__(
        self, epoch_s: float = 1_760_000_000.0, monotonic_s: float = 0.0, source: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._calendar_s = epoch_s - monotonic_s
        self._monotonic_s = monotonic_s
        self._source = source
        self._since_s = source()
        self._factor = 1.0

    def epoch_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self._calendar_s + self.monotonic_s()

    def monotonic_s(self) -> float:
        """Seconds of a stopwatch."""
        return self._monotonic_s + (self._source() - self._since_s) * self._factor

    def advance(self, seconds: float) -> None:
        """Go forward at once."""
        self._monotonic_s += seconds

    def hurry(self, factor: float) -> None:
        """Run `factor` times as fast as the source from this moment on."""
        self._monotonic_s, self._since_s = self.monotonic_s(), self._source()
        self._factor = factor

    @property
    def hurries(self) -> bool:
        """Whether it runs faster than its source."""
        return self._factor != 1.0
