"""Streams that go on and on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class CommentDrip(Fault):
    """After `after` events come comments for ever, one every `every_s`."""

    name: ClassVar[str] = "comment_drip"
    is_endless: ClassVar[bool] = True
    after: int = 1
    every_s: float = 1.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then comments."""
        return _then_for_ever(call, frames, self.after, b": OPENROUTER PROCESSING\n\n", self.every_s)


@dataclass(frozen=True, slots=True)
class NeverEnds(Fault):
    """All deltas come, and then empty ones for ever; the usage never does.

    Attributes:
        every_s: Pause between them.
    """

    name: ClassVar[str] = "never_ends"
    is_endless: ClassVar[bool] = True
    every_s: float = 0.01

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield all events before the usage, then the last of them again and again."""
        if not call.ask.stream:
            yield from frames
            return
        last = Frame(b"")
        for frame in frames:
            if frame.settles:
                break
            last = frame
            yield frame
        while True:
            yield Frame(call.shape.delta(call, ""), last.tokens, wait_s=self.every_s)


def _then_for_ever(call: SimCall, frames: Iterator[Frame], after: int, data: bytes, every_s: float) -> Iterator[Frame]:
    if not call.ask.stream:
        yield from frames
        return
    tokens = 0
    for frame in islice(frames, after):
        tokens = frame.tokens
        yield frame
    while True:
        yield Frame(data, tokens, wait_s=every_s)
