"""An answer that lasts as long as a test wants, on a machine of any speed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from openrouter_sim.calls.call import Frame
from openrouter_sim.calls.scenario import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


class PausedAnswer(Fault, frozen=True):
    """Send head and first frame, and the rest after `over` is set."""

    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first frame, then empty ones until `over` is set, then the rest."""
        yield next(frames)
        while not self.over.is_set():
            yield Frame(b"", wait_s=0.01)
        yield from frames
