"""One queue before OpenRouter for the whole process: when it asks for patience, nobody knocks until the time is over (M20)."""

from __future__ import annotations

from collections.abc import Sequence

from preflight_proxy.clock import Clock
from preflight_proxy.core.upstream_refusal import Remedy, UpstreamRefusal

HELD_MAX = 1000
"""Holds remembered before those whose time is over are forgotten; a field never asks for so many."""

_WHOLE = ""
"""Stands for all endpoints of a model, where no provider was named."""


class Holds:
    """Until when calls are held back: all of them, those to one model, or those to one endpoint of it.

    Args:
        clock: The stopwatch that the holds are measured on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._process_until_s = 0.0
        self._until_s: dict[tuple[str, str], float] = {}

    def hold(self, model: str, refusal: UpstreamRefusal, tags: Sequence[str] = ()) -> None:
        """Hold calls back for as long as a refusal asked for: those to `tags` of the model, or to all of it if there are none."""
        until_s = self._clock.monotonic_s() + refusal.retry_after_s
        if refusal.remedy is Remedy.WAIT_PROCESS:
            self._process_until_s = max(self._process_until_s, until_s)
        elif refusal.remedy is Remedy.WAIT_MODEL:
            if len(self._until_s) >= HELD_MAX:
                now_s = self._clock.monotonic_s()
                self._until_s = {held: end_s for held, end_s in self._until_s.items() if end_s > now_s}
            for tag in tags or (_WHOLE,):
                self._until_s[model, tag] = max(self._until_s.get((model, tag), 0.0), until_s)

    def free(self, model: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Those endpoints of a model that may be asked now, the holds on everything aside; all if there is none."""
        now_s = self._clock.monotonic_s()
        return tuple(tag for tag in tags if self._until_s.get((model, tag), 0.0) <= now_s) or tuple(tags)

    def wait_s(self, model: str, tags: Sequence[str]) -> float:
        """Seconds from now until a call that one of `tags` may serve can be sent; 0 if it may be sent at once."""
        first_s = min((self._until_s.get((model, tag), 0.0) for tag in tags), default=0.0)
        until_s = max(self._process_until_s, self._until_s.get((model, _WHOLE), 0.0), first_s)
        return max(0.0, until_s - self._clock.monotonic_s())
