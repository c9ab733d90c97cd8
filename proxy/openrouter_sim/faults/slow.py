"""Providers that take their time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """The headers wait `first_s`, every event `each_s`."""

    name: ClassVar[str] = "slow"
    first_s: float = 1.0
    each_s: float = 0.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with pauses."""
        wait_s = self.first_s
        for frame in frames:
            yield replace(frame, wait_s=frame.wait_s + wait_s)
            wait_s = self.each_s


@dataclass(frozen=True, slots=True)
class SilentStream(Fault):
    """A stream falls silent for `stall_s` after `after` events, then goes on."""

    name: ClassVar[str] = "stall"
    is_endless: ClassVar[bool] = True
    after: int = 3
    stall_s: float = 3600.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with the one pause."""
        for count, frame in enumerate(frames):
            yield replace(frame, wait_s=frame.wait_s + self.stall_s) if count == self.after else frame
