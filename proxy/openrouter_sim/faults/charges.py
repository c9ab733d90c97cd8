"""Charges above the listed price or the bound, and charges that are late or hard to look up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.jsonio import plain
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall
    from openrouter_sim.catalog.models import SimEndpoint


@dataclass(frozen=True, slots=True)
class PriceRise(Fault):
    """Charge `factor` times the listed price."""

    name: ClassVar[str] = "price_rise"
    factor: Decimal = Decimal("1.5")

    def arrange(self, call: SimCall) -> None:
        """Raise the price."""
        call.price = call.price.times(self.factor)


@dataclass(frozen=True, slots=True)
class ExtraEndpoint(Fault):
    """Serve by an endpoint that is not listed, at `factor` times the price of the first one.

    Attributes:
        tag: The endpoint's tag.
        provider: The name of its provider.
    """

    name: ClassVar[str] = "extra_endpoint"
    factor: Decimal = Decimal(3)
    tag: str = "newcomer"
    provider: str = "Newcomer"

    def offer(self, endpoints: tuple[SimEndpoint, ...]) -> tuple[SimEndpoint, ...]:
        """Return only the unlisted endpoint."""
        first = endpoints[0]
        dearer = {name: plain(Decimal(first.pricing[name]) * self.factor) for name in ("prompt", "completion")}
        return (replace(first, tag=self.tag, provider=self.provider, pricing=dearer),)


@dataclass(frozen=True, slots=True)
class WrongBound(Fault):
    """Generate `factor` times the output bound (or `tokens`), at most the endpoint's maximum."""

    name: ClassVar[str] = "wrong_bound"
    factor: Decimal = Decimal(4)
    tokens: int = 0

    def arrange(self, call: SimCall) -> None:
        """Make the completion longer than its bound."""
        if call.request.bound is None and not self.tokens:
            return
        wanted = self.tokens or int((call.request.bound or 0) * self.factor)
        count = min(wanted, call.endpoint.output_tokens_max)
        call.tokens = replace(call.tokens, completion=max(count, call.tokens.completion))
        call.reply = replace(call.reply, tokens=call.tokens.completion, finish="stop")


@dataclass(frozen=True, slots=True)
class HideGenerationId(Fault):
    """Send the generation id neither in a header nor in the body."""

    name: ClassVar[str] = "hide_generation_id"

    def arrange(self, call: SimCall) -> None:
        """Hide the id."""
        call.shows_id = False


@dataclass(frozen=True, slots=True)
class GenerationNever(Fault):
    """Answer 404 for this id at `/generation`, without end."""

    name: ClassVar[str] = "generation_never"

    def arrange(self, call: SimCall) -> None:
        """Never resolve the id."""
        call.resolves = False


@dataclass(frozen=True, slots=True)
class WrongGenerationCost(Fault):
    """State one cost in `usage.cost` and another at `/generation`.

    Attributes:
        factor: The cost at `/generation`, as a multiple of `usage.cost`.
        bills_usage: `usage.cost` is charged; else the cost at `/generation`.
    """

    name: ClassVar[str] = "wrong_generation_cost"
    factor: Decimal = Decimal(2)
    bills_usage: bool = True

    def arrange(self, call: SimCall) -> None:
        """Make the two costs differ."""
        if self.bills_usage:
            call.reported_factor = self.factor
            return
        call.usage_cost = call.cost
        call.cost_usd = call.cost * self.factor


@dataclass(frozen=True, slots=True)
class KeyUsageLag(Fault):
    """Count this call's cost `lag_s` late in the usage of `/key` and in the limit checks."""

    name: ClassVar[str] = "key_usage_lag"
    lag_s: float = 30.0

    def arrange(self, call: SimCall) -> None:
        """Delay the counting."""
        call.lag_s = self.lag_s
