"""An error that repeats the caller's secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.errors import ApiError
from openrouter_sim.faults.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.call import Call


@dataclass(frozen=True, slots=True)
class EchoKey(Fault):
    """The error's sentence, its metadata and a header hold the `Authorization` that came."""

    name: ClassVar[str] = "echo_key"
    status: int = 400

    def refuse(self, call: Call) -> ApiError | None:
        """Return the error."""
        came = call.authorization
        headers = {"X-Debug-Authorization": came}
        return ApiError(self.status, f"Upstream refused: {came}", metadata={"raw": f"got {came}"}, headers=headers)
