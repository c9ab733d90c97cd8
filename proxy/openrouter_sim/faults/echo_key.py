"""An answer that repeats the caller's secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class EchoKey(Fault):
    """The error's sentence, its metadata and a header hold the `Authorization` that came; or a field of the answer does.

    Attributes:
        status: The HTTP status; with 200 the call is served, and each event, or the whole body, has the field `echo`.
        escaped: Every second character of it is a JSON escape; in an error, one inside a string.
    """

    name: ClassVar[str] = "echo_key"
    status: int = 400
    escaped: bool = False

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error."""
        if self.status == 200:
            return None
        came = self._came(call)
        headers = {"X-Debug-Authorization": came}
        return ApiError(self.status, f"Upstream refused: {came}", metadata={"raw": f"got {came}"}, headers=headers)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Put the field into every object that names a model."""
        if self.status != 200:
            yield from frames
            return
        came = self._came(call)
        for frame in frames:
            yield replace(frame, data=frame.data.replace(b'"model":', b'"echo":"%b","model":' % came.encode()))

    def _came(self, call: SimCall) -> str:
        came = call.authorization
        if not self.escaped:
            return came
        return "".join(f"\\u{ord(char):04X}" if place % 2 else char for place, char in enumerate(came))
