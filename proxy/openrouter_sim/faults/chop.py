"""Bytes that arrive in arbitrary pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Chop(Fault):
    """The answer comes in pieces of 1 to `size_bytes` bytes, whatever they split.

    Attributes:
        pause_s: Between two pieces, so that they are not joined again on the way.
        seed: Of the sizes.
    """

    name: ClassVar[str] = "chop"
    size_bytes: int = 7
    pause_s: float = 0.0
    seed: int = 0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the pieces."""
        sizes = Random(self.seed)
        for frame in frames:
            start = 0
            while start < len(frame.data):
                end = start + sizes.randint(1, self.size_bytes)
                piece = replace(frame, data=frame.data[start:end], cut=None)
                yield replace(piece, wait_s=frame.wait_s if start == 0 else self.pause_s)
                start = end
            if frame.cut is not None:
                yield Frame(b"", frame.tokens, cut=frame.cut)
