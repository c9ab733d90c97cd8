"""What a call costs, in exact Decimal: tokens at an endpoint's price, service tiers and web searches.

Source: openrouter.ai/docs/guides/features/{service-tiers,plugins/web-search,server-tools}, 2026. At OpenRouter the factors
of tiers differ by provider; here they are the same for all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from msgspec.structs import asdict, replace

from openrouter_sim.base.jsonio import JsonObject

ZERO = Decimal(0)
TIER_FACTORS = {"flex": Decimal("0.5"), "priority": Decimal(2), "fast": Decimal(2)}
SEARCH_USD = Decimal("0.007")
"""One web search by the default engine."""


class SimTokens(msgspec.Struct, frozen=True):
    """Token counts of a generation. `prompt` includes cached and written tokens, `completion` includes reasoning."""

    prompt: int
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def written(self) -> int:
        """Cache writes of both lifetimes."""
        return self.write_5m + self.write_1h

    def stopped_at(self, completion: int) -> SimTokens:
        """Return the counts of a generation that was cut after `completion` tokens."""
        completion = min(completion, self.completion)
        return replace(self, completion=completion, reasoning=min(self.reasoning, completion))


class SimPrice(msgspec.Struct, frozen=True):
    """USD per token (`request`: per request), after overrides and discount."""

    prompt: Decimal
    completion: Decimal
    cache_read: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal
    internal_reasoning: Decimal | None = None
    request: Decimal = ZERO

    def times(self, factor: Decimal) -> SimPrice:
        """Return the price with every rate multiplied."""
        rates = {name: rate * factor for name, rate in asdict(self).items() if rate is not None}
        return replace(self, **rates)

    def prompt_cost(self, tokens: SimTokens) -> Decimal:
        """Return the USD of the prompt, with the fee per request."""
        fresh = tokens.prompt - tokens.cached - tokens.written
        return (
            fresh * self.prompt
            + tokens.cached * self.cache_read
            + tokens.write_5m * self.cache_write
            + tokens.write_1h * self.cache_write_1h
            + self.request
        )

    def completion_cost(self, tokens: SimTokens) -> Decimal:
        """Return the USD of the completion."""
        if self.internal_reasoning is None:
            return tokens.completion * self.completion
        plain = tokens.completion - tokens.reasoning
        return plain * self.completion + tokens.reasoning * self.internal_reasoning

    def cost(self, tokens: SimTokens) -> Decimal:
        """Return the USD of the generation."""
        return self.prompt_cost(tokens) + self.completion_cost(tokens)

    @property
    def is_free(self) -> bool:
        """Whether prompt, completion and request cost nothing."""
        return not (self.prompt or self.completion or self.request)


def price_of(pricing: JsonObject, prompt_tokens: int, now: float) -> SimPrice:
    """Return what an endpoint charges for a prompt of this length at epoch second `now`.

    A missing rate is that of `prompt`. Overrides apply to the whole request; later ones win.

    Source: openrouter.ai/docs/guides/overview/models, `pricing`, 2026.
    """
    if not pricing.get("overrides"):
        return _price(pricing)
    rates = dict(pricing)
    for override in pricing["overrides"]:
        if _applies(override, prompt_tokens, now):
            rates.update(override)
    return _price(rates)


def _price(rates: JsonObject) -> SimPrice:
    net = 1 - Decimal(str(rates.get("discount", 0)))
    prompt = Decimal(rates["prompt"]) * net

    def rate(name: str, otherwise: Decimal) -> Decimal:
        return Decimal(rates[name]) * net if name in rates else otherwise

    write = rate("input_cache_write", prompt)
    return SimPrice(
        prompt=prompt,
        completion=Decimal(rates["completion"]) * net,
        cache_read=rate("input_cache_read", prompt),
        cache_write=write,
        cache_write_1h=rate("input_cache_write_1h", write),
        internal_reasoning=rate("internal_reasoning", ZERO) if "internal_reasoning" in rates else None,
        request=rate("request", ZERO),
    )


def _applies(override: JsonObject, prompt_tokens: int, now: float) -> bool:
    if prompt_tokens <= override.get("min_prompt_tokens", -1):
        return False
    moment = datetime.fromtimestamp(now, UTC)
    if "utc_days" in override and moment.isoweekday() % 7 not in override["utc_days"]:
        return False
    if "utc_start" in override:
        return _within(moment.strftime("%H%M"), str(override["utc_start"]), str(override["utc_end"]))
    return True


def _within(hhmm: str, start: str, end: str) -> bool:
    return start <= hhmm < end if start <= end else hhmm >= start or hhmm < end


def served_tier(body: JsonObject) -> tuple[str | None, Decimal]:
    """Return the tier that serves the request, and its factor on the endpoint's price."""
    tier = body.get("service_tier") or body.get("speed")
    factor = TIER_FACTORS.get(tier) if isinstance(tier, str) else None
    if factor is None:
        return None, Decimal(1)
    return ("priority" if tier == "fast" else str(tier)), factor


def search_cost(body: JsonObject, variant: str) -> Decimal:
    """Return the USD of the searches: one for each web plugin, search tool, or the suffix `:online`."""
    entries = [entry for name in ("plugins", "tools") for entry in _objects(body.get(name))]
    searches: int = sum(entry.get("id") == "web" or entry.get("type") == "openrouter:web_search" for entry in entries)
    return SEARCH_USD * (searches + int(variant == "online"))


def _objects(value: object) -> list[JsonObject]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
