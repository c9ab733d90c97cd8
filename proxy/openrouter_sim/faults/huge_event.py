"""An event that is larger than anybody wants to hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


PIECE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class HugeEvent(Fault):
    """Before the usage comes one event of `size_bytes`."""

    name: ClassVar[str] = "huge_event"
    is_endless: ClassVar[bool] = True
    size_bytes: int = 1 << 30

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with the huge one among them."""
        for frame in frames:
            if frame.settles and call.ask.stream:
                yield from self._event(frame.tokens)
            yield frame

    def _event(self, tokens: int) -> Iterator[Frame]:
        yield Frame(b'data: {"padding":"', tokens)
        for start in range(0, self.size_bytes, PIECE_BYTES):
            yield Frame(b"x" * min(PIECE_BYTES, self.size_bytes - start), tokens)
        yield Frame(b'"}\n\n', tokens)
