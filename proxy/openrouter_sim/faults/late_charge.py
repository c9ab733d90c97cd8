"""An error that turns out to have cost money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class LateCharge(Fault):
    """The call fails with `status`; `delay_s` later its full cost is charged all the same."""

    name: ClassVar[str] = "late_charge"
    status: int = 504
    delay_s: float = 5.0

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error, with the charge under way."""
        call.charges_errors = True
        call.late_s = self.delay_s
        return ApiError(self.status, "The operation was aborted")
