"""Costs that differ from the list price, the bound or what the answer states; usage without a cost; late charges."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from openrouter_sim.base.jsonio import JsonObject, plain
from openrouter_sim.billing.prices import ZERO
from openrouter_sim.calls.call import SimCall
from openrouter_sim.calls.scenario import Fault
from openrouter_sim.catalog.models import SimEndpoint


class PriceRise(Fault, frozen=True):
    """Charge `factor` times the listed price."""

    factor: Decimal = Decimal("1.5")

    def arrange(self, call: SimCall) -> None:
        """Raise the price."""
        call.price = call.price.times(self.factor)


class ExtraEndpoint(Fault, frozen=True):
    """Serve by an endpoint that is not listed, at `factor` times the price of the first one.

    Attributes:
        tag: The endpoint's tag.
        provider: The name of its provider.
    """

    factor: Decimal = Decimal(3)
    tag: str = "newcomer"
    provider: str = "Newcomer"

    def offer(self, endpoints: tuple[SimEndpoint, ...]) -> tuple[SimEndpoint, ...]:
        """Return only the unlisted endpoint."""
        first = endpoints[0]
        dearer = {name: plain(Decimal(first.pricing[name]) * self.factor) for name in ("prompt", "completion")}
        return (replace(first, tag=self.tag, provider=self.provider, pricing=dearer),)


class WrongBound(Fault, frozen=True):
    """Generate `factor` times the output bound (or `tokens`), at most the endpoint's maximum."""

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


class HideGenerationId(Fault, frozen=True):
    """Send the generation id neither in a header nor in the body."""

    def arrange(self, call: SimCall) -> None:
        """Hide the id."""
        call.shows_id = False


class GenerationNever(Fault, frozen=True):
    """Answer 404 for this id at `/generation`, without end."""

    def arrange(self, call: SimCall) -> None:
        """Never resolve the id."""
        call.resolves = False


class WrongGenerationCost(Fault, frozen=True):
    """State one cost in `usage.cost` and another at `/generation`.

    Attributes:
        factor: The cost at `/generation`, as a multiple of `usage.cost`.
        bills_usage: `usage.cost` is charged; else the cost at `/generation`.
    """

    factor: Decimal = Decimal(2)
    bills_usage: bool = True

    def arrange(self, call: SimCall) -> None:
        """Make the two costs differ."""
        if self.bills_usage:
            call.reported_factor = self.factor
            return
        call.usage_cost = call.cost
        call.cost_usd = call.cost * self.factor


class KeyUsageLag(Fault, frozen=True):
    """Count this call's cost `lag_s` late in the usage of `/key` and in the limit checks."""

    lag_s: float = 30.0

    def arrange(self, call: SimCall) -> None:
        """Delay the counting."""
        call.lag_s = self.lag_s


class MissingUsage(Fault, frozen=True):
    """Send no usage object."""

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return None."""
        return None


class NullCost(Fault, frozen=True):
    """Send a usage object with `cost: null`."""

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the usage without the amount."""
        return {**usage, "cost": None}


class ReprFloat(Fault, frozen=True):
    """Write the cost as Python prints a float."""

    def arrange(self, call: SimCall) -> None:
        """State the cost as a float."""
        call.usage_cost = float(call.cost)


class CacheHit(Fault, frozen=True):
    """Answer as OpenRouter's response cache does: zero usage without cost, a header with HIT, no charge.

    Source: openrouter.ai/docs/guides/features/response-caching, 2026.
    """

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO
        call.outcome = "cache_hit"

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Add the headers of the cache."""
        headers["X-OpenRouter-Cache-Status"] = "HIT"
        headers["X-OpenRouter-Cache-Age"] = "12"

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return usage with zero tokens and no cost."""
        return {name: 0 for name, value in usage.items() if type(value) is int}


class ZeroCostWithTokens(Fault, frozen=True):
    """Report tokens at cost 0 and charge nothing, as zero-completion insurance does."""

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO


class Byok(Fault, frozen=True):
    """Use the caller's own provider key: OpenRouter charges a fee, and `cost_details` has the provider's bill.

    Attributes:
        fee: Share of the list price that is charged.
    """

    fee: Decimal = Decimal(0)

    def arrange(self, call: SimCall) -> None:
        """Split the cost into the fee and the provider's bill."""
        call.upstream_usd = call.cost
        call.cost_usd = call.cost * self.fee
        call.is_byok = True
