"""Usage objects that do not state the list price, or state no cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.billing.prices import ZERO
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class MissingUsage(Fault):
    """Send no usage object."""

    name: ClassVar[str] = "missing_usage"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class NullCost(Fault):
    """Send a usage object with `cost: null`."""

    name: ClassVar[str] = "null_cost"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the usage without the amount."""
        return {**usage, "cost": None}


@dataclass(frozen=True, slots=True)
class ReprFloat(Fault):
    """Write the cost as Python prints a float."""

    name: ClassVar[str] = "repr_float"

    def arrange(self, call: SimCall) -> None:
        """State the cost as a float."""
        call.usage_cost = float(call.cost)


@dataclass(frozen=True, slots=True)
class CacheHit(Fault):
    """Answer as OpenRouter's response cache does: zero usage without cost, a header with HIT, no charge.

    Source: openrouter.ai/docs/guides/features/response-caching, 2026.
    """

    name: ClassVar[str] = "cache_hit"

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO
        call.outcome = "cache_hit"

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Add the headers of the cache."""
        headers["X-OpenRouter-Cache-Status"] = "HIT"
        headers["X-OpenRouter-Cache-Age"] = "12"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return usage with zero tokens and no cost."""
        return {name: 0 for name, value in usage.items() if type(value) is int}


@dataclass(frozen=True, slots=True)
class ZeroCost(Fault):
    """Report tokens at cost 0 and charge nothing, as zero-completion insurance does."""

    name: ClassVar[str] = "zero_cost_with_tokens"

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO


@dataclass(frozen=True, slots=True)
class Byok(Fault):
    """Use the caller's own provider key: OpenRouter charges a fee, and `cost_details` has the provider's bill.

    Attributes:
        fee: Share of the list price that is charged.
    """

    name: ClassVar[str] = "byok"
    fee: Decimal = Decimal(0)

    def arrange(self, call: SimCall) -> None:
        """Split the cost into the fee and the provider's bill."""
        call.upstream_usd = call.cost
        call.cost_usd = call.cost * self.fee
        call.is_byok = True
