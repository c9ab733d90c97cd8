"""Usage objects that do not tell the whole truth; the bill is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class MissingUsage(Fault):
    """There is no usage object."""

    name: ClassVar[str] = "missing_usage"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class NullCost(Fault):
    """The usage object has `cost: null`."""

    name: ClassVar[str] = "null_cost"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the usage without the amount."""
        return {**usage, "cost": None}


@dataclass(frozen=True, slots=True)
class ReprFloat(Fault):
    """The cost is written as a binary floating-point number prints itself."""

    name: ClassVar[str] = "repr_float"

    def arrange(self, call: SimCall) -> None:
        """State the cost as a float."""
        call.told_cost = float(call.cost)
