"""One queue before OpenRouter for the whole process: when it asks for patience, nobody knocks until the time is over (M20)."""

from __future__ import annotations

from preflight_proxy.clock import Clock
from preflight_proxy.core.upstream_refusal import Remedy, UpstreamRefusal

HELD_MAX = 1000
"""Models remembered as held before those whose time is over are forgotten; a field never asks for so many."""


class Holds:
    """Until when calls are held back: all of them, or those to one model.

    Args:
        clock: The stopwatch that the holds are measured on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._process_until_s = 0.0
        self._model_until_s: dict[str, float] = {}

    def hold(self, model: str, refusal: UpstreamRefusal) -> None:
        """Hold calls back for as long as a refusal asked for."""
        until_s = self._clock.monotonic_s() + refusal.retry_after_s
        if refusal.remedy is Remedy.WAIT_PROCESS:
            self._process_until_s = max(self._process_until_s, until_s)
        elif refusal.remedy is Remedy.WAIT_MODEL:
            if len(self._model_until_s) >= HELD_MAX:
                now_s = self._clock.monotonic_s()
                self._model_until_s = {held: end_s for held, end_s in self._model_until_s.items() if end_s > now_s}
            self._model_until_s[model] = max(self._model_until_s.get(model, 0.0), until_s)

    def wait_s(self, model: str) -> float:
        """Seconds from now until a call to `model` may be sent; 0 if it may be sent at once."""
        until_s = max(self._process_until_s, self._model_until_s.get(model, 0.0))
        return max(0.0, until_s - self._clock.monotonic_s())
