"""Zero-completion insurance: tokens are reported, nothing is charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.billing.prices import ZERO
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class ZeroCost(Fault):
    """Usage shows tokens and cost 0, and 0 is what is billed."""

    name: ClassVar[str] = "zero_cost_with_tokens"

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO
