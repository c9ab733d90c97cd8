"""Answers from OpenRouter's response cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.billing.prices import ZERO
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class CacheHit(Fault):
    """Usage is all zero and has no cost, a header says HIT, nothing is charged.

    Source: openrouter.ai/docs/guides/features/response-caching, 2026.
    """

    name: ClassVar[str] = "cache_hit"

    def arrange(self, call: SimCall) -> None:
        """Make the call free."""
        call.cost_usd = ZERO
        call.outcome = "cache_hit"

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Say so."""
        headers["X-OpenRouter-Cache-Status"] = "HIT"
        headers["X-OpenRouter-Cache-Age"] = "12"

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the zeroed usage."""
        return {name: 0 for name, value in usage.items() if type(value) is int}
