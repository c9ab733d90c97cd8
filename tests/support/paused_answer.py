"""A call that lasts as long as a test wants, on a machine of any speed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class PausedAnswer(Fault):
    """An answer whose head and first frame arrive, and whose rest waits until `over` is set."""

    name: ClassVar[str] = "held"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first frame, empty ones as long as it lasts, and the others."""
        yield next(frames)
        while not self.over.is_set():
            yield Frame(b"", wait_s=0.01)
        yield from frames
