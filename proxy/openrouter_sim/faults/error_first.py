"""An error as the first event after the 200."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError, StreamError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class ErrorFirst(Fault):
    """The 200 is sent, then nothing but an error: an event in a stream, else a body with `error`.

    Attributes:
        done: A stream still ends in `[DONE]`.
        charge: The prompt is billed.
    """

    name: ClassVar[str] = "error_first"
    code: str = "server_error"
    message: str = "Provider disconnected"
    done: bool = False
    charge: bool = False

    def arrange(self, call: SimCall) -> None:
        """Make the outcome an error."""
        call.outcome = "error"
        call.charges_errors = self.charge

    def whole(self, call: SimCall, body: JsonObject) -> JsonObject:
        """Return an error body."""
        return call.shape.error(ApiError(502, self.message), call.shown_id)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the error event."""
        if not call.ask.stream:
            yield from frames
            return
        yield Frame(call.shape.stream_error(call, StreamError(self.code, self.message)))
        if self.done:
            yield Frame(b"data: [DONE]\n\n")
