"""Prices that the list does not show."""

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
    """The call is charged `factor` times the listed price."""

    name: ClassVar[str] = "price_rise"
    factor: Decimal = Decimal("1.5")

    def arrange(self, call: SimCall) -> None:
        """Raise the price."""
        call.price = call.price.times(self.factor)


@dataclass(frozen=True, slots=True)
class ExtraEndpoint(Fault):
    """An endpoint that is not listed serves, at `factor` times the first one's price.

    Attributes:
        tag: Its tag.
        provider: Its provider's name.
    """

    name: ClassVar[str] = "extra_endpoint"
    factor: Decimal = Decimal(3)
    tag: str = "newcomer"
    provider: str = "Newcomer"

    def offer(self, endpoints: tuple[SimEndpoint, ...]) -> tuple[SimEndpoint, ...]:
        """Return the newcomer alone."""
        first = endpoints[0]
        dearer = {name: plain(Decimal(first.pricing[name]) * self.factor) for name in ("prompt", "completion")}
        return (replace(first, tag=self.tag, provider=self.provider, pricing=dearer),)
