"""Connections that end before the answer does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Cut, Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class SilentClose(Fault):
    """The connection closes without a word; what was generated so far is billed by the provider's rule.

    Attributes:
        after: How many events come first; a whole body is cut in its middle.
        clean: The chunked body is ended properly.
    """

    name: ClassVar[str] = "silent_close"
    after: int = 3
    clean: bool = False

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the end."""
        return cut_after(call, frames, self.after, Cut.END if self.clean else Cut.CLOSE)


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """The connection is reset; what was generated so far is billed by the provider's rule.

    Attributes:
        after: How many events come first; 0 resets right after the headers.
    """

    name: ClassVar[str] = "reset"
    after: int = 3

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the reset."""
        return cut_after(call, frames, self.after, Cut.ABORT)


def cut_after(call: SimCall, frames: Iterator[Frame], after: int, cut: Cut) -> Iterator[Frame]:
    """Yield `after` events of a stream, or half a whole body, then the cut."""
    tokens = 0
    for frame in islice(frames, after):
        if frame.settles and call.ask.stream:
            break
        tokens = frame.tokens
        yield frame if call.ask.stream else replace(frame, data=frame.data[: len(frame.data) // 2])
    yield Frame(b"", tokens, cut=cut)
