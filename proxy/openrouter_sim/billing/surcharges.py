"""Costs besides tokens: service tiers and web searches.

Source: openrouter.ai/docs/guides/features/{service-tiers,plugins/web-search,server-tools}, 2026. At OpenRouter the
factors differ by provider; here they are the same for all.
"""

from __future__ import annotations

from decimal import Decimal

from openrouter_sim.base.jsonio import JsonObject

TIER_FACTORS = {"flex": Decimal("0.5"), "priority": Decimal(2), "fast": Decimal(2)}
SEARCH_USD = Decimal("0.007")
"""One web search by the default engine."""


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
