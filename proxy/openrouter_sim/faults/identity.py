"""Generations that are hard to find again."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class HideGenerationId(Fault):
    """Neither header nor body has the generation id."""

    name: ClassVar[str] = "hide_generation_id"

    def arrange(self, call: SimCall) -> None:
        """Hide it."""
        call.shows_id = False


@dataclass(frozen=True, slots=True)
class GenerationNever(Fault):
    """`/generation` answers 404 for ever."""

    name: ClassVar[str] = "generation_never"

    def arrange(self, call: SimCall) -> None:
        """Never resolve the id."""
        call.resolves = False


@dataclass(frozen=True, slots=True)
class WrongGenerationCost(Fault):
    """`/generation` and `usage.cost` disagree.

    Attributes:
        factor: What `/generation` says, as a multiple of the usage's cost.
        bills_usage: The usage's cost is what is billed; else `/generation`'s.
    """

    name: ClassVar[str] = "wrong_generation_cost"
    factor: Decimal = Decimal(2)
    bills_usage: bool = True

    def arrange(self, call: SimCall) -> None:
        """Make them differ."""
        if self.bills_usage:
            call.reported_factor = self.factor
            return
        call.told_cost = call.cost
        call.cost_usd = call.cost * self.factor


@dataclass(frozen=True, slots=True)
class KeyUsageLag(Fault):
    """The counters of `/key` and the limit checks see this call's cost `lag_s` late."""

    name: ClassVar[str] = "key_usage_lag"
    lag_s: float = 30.0

    def arrange(self, call: SimCall) -> None:
        """Delay the counting."""
        call.lag_s = self.lag_s
