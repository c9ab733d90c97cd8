"""An error in the middle of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import StreamError
from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class ErrorMid(Fault):
    """After some events comes an error event, and the stream ends.

    Attributes:
        after: How many events come first.
        done: `[DONE]` follows.
        choice_only: Only the choice says `error`; there is no error object.
        bare: The event is `{"error": …}` and no more.
        charge: What was generated so far is billed.
    """

    name: ClassVar[str] = "error_mid"
    after: int = 3
    done: bool = False
    choice_only: bool = False
    bare: bool = False
    charge: bool = False
    code: int = 502
    message: str = "Provider disconnected"

    def arrange(self, call: SimCall) -> None:
        """Make the outcome an error."""
        if call.ask.stream:
            call.outcome = "error"
            call.charges_errors = self.charge

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then the error."""
        if not call.ask.stream:
            yield from frames
            return
        tokens = 0
        for frame in islice(frames, self.after):
            if frame.settles:
                break
            tokens = frame.tokens
            yield frame
        error = StreamError(self.code, self.message, choice_only=self.choice_only, bare=self.bare)
        yield Frame(call.shape.stream_error(call, error), tokens)
        if self.done:
            yield Frame(b"data: [DONE]\n\n", tokens)
