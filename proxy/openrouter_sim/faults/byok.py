"""Calls on the caller's own provider key."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Byok(Fault):
    """OpenRouter charges only its fee; the provider's bill stands in `cost_details`.

    Attributes:
        fee: Share of the list price that is charged.
    """

    name: ClassVar[str] = "byok"
    fee: Decimal = Decimal(0)

    def arrange(self, call: SimCall) -> None:
        """Split the cost."""
        call.upstream_usd = call.cost
        call.cost_usd = call.cost * self.fee
        call.is_byok = True
