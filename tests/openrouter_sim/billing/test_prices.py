"""Costs, service tiers and searches, computed by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.billing.prices import SimTokens, price_of, search_cost, served_tier
from openrouter_sim.catalog.models import load_catalog
from tests.support.cases import each

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller


NOON = 1_760_011_200.0  # Thursday 2025-10-09 12:00 UTC
SONNET = load_catalog()["anthropic/claude-sonnet-4.5"].endpoints[0].pricing


def test_cached_written_and_fresh_tokens_each_have_their_rate() -> None:
    tokens = SimTokens(prompt=5000, cached=1000, write_5m=2000, write_1h=500, completion=100, reasoning=40)
    price = price_of(SONNET, 5000, NOON)
    assert price.prompt_cost(tokens) == Decimal("0.0153")  # 1500 x 3 + 1000 x 0.30 + 2000 x 3.75 + 500 x 6, per million
    assert price.completion_cost(tokens) == Decimal("0.0015")
    assert price.cost(tokens) == Decimal("0.0168")


def test_an_override_reprices_the_whole_request_strictly_above_its_length() -> None:
    assert price_of(SONNET, 200_000, NOON).prompt == Decimal("0.000003")
    dear = price_of(SONNET, 200_001, NOON)
    assert (dear.prompt, dear.completion) == (Decimal("0.000006"), Decimal("0.0000225"))
    assert dear.cache_write_1h == Decimal("0.000012")


def test_rates_that_are_absent_are_the_prompt_rate_and_a_discount_is_taken_off() -> None:
    price = price_of({"prompt": "0.000001", "completion": "0.000002", "discount": Decimal("0.1")}, 1, NOON)
    assert price.cache_read == price.cache_write == price.cache_write_1h == Decimal("0.0000009")
    assert price.completion == Decimal("0.0000018")
    assert not price.is_free


def test_reasoning_and_requests_can_have_prices_of_their_own() -> None:
    pricing: JsonObject = {"prompt": "0", "completion": "0.000002", "internal_reasoning": "0.000003", "request": "0.01"}
    price = price_of(pricing, 1, NOON)
    assert price.cost(SimTokens(prompt=9, completion=10, reasoning=4)) == Decimal("0.010024")
    assert price.times(Decimal(2)).cost(SimTokens(prompt=9, completion=10, reasoning=4)) == Decimal("0.020048")


@each(
    "window, applies",
    [
        ({"utc_start": "1100", "utc_end": "1300"}, True),
        ({"utc_start": "1300", "utc_end": "1400"}, False),
        ({"utc_start": "2200", "utc_end": "1230"}, True),
        ({"utc_days": [4]}, True),
        ({"utc_days": [0, 6]}, False),
    ],
)
def test_overrides_can_hold_for_hours_and_days(window: JsonObject, applies: bool) -> None:
    pricing: JsonObject = {"prompt": "1", "completion": "1", "overrides": [{"prompt": "9", **window}]}
    assert (price_of(pricing, 1, NOON).prompt == 9) is applies


def test_a_cut_completion_keeps_its_prompt() -> None:
    whole = SimTokens(prompt=7, cached=3, completion=10, reasoning=6)
    assert whole.stopped_at(4) == SimTokens(prompt=7, cached=3, completion=4, reasoning=4)
    assert whole.stopped_at(99) == whole


@each(
    "body, tier, factor",
    [
        ({}, None, "1"),
        ({"service_tier": "auto"}, None, "1"),
        ({"service_tier": "flex"}, "flex", "0.5"),
        ({"service_tier": "fast"}, "priority", "2"),
        ({"speed": "fast"}, "priority", "2"),
        ({"service_tier": ["flex"]}, None, "1"),
    ],
)
def test_a_tier_multiplies_the_price(body: Any, tier: str | None, factor: str) -> None:
    assert served_tier(body) == (tier, Decimal(factor))


def test_each_search_costs() -> None:
    assert search_cost({}, "") == 0
    assert search_cost({}, "online") == Decimal("0.007")
    assert search_cost({"plugins": [{"id": "web"}, 5], "tools": [{"type": "openrouter:web_search"}]}, "") == Decimal(
        "0.014"
    )
    assert search_cost({"plugins": "web"}, "nitro") == 0


@pytest.mark.wire
async def test_the_bill_has_both_on_the_wire(caller: Caller) -> None:
    plain = (await caller.chat("[[sim tokens=100]]")).json["usage"]["cost"]
    answer = (await caller.chat("[[sim tokens=100]]", service_tier="priority", plugins=[{"id": "web"}])).json
    assert answer["service_tier"] == "priority"
    assert answer["usage"]["cost"] == 2 * plain + Decimal("0.007")
    assert caller.sim.bill().total_usd == 3 * plain + Decimal("0.007")


@pytest.mark.wire
async def test_the_first_of_several_models_serves_where_none_is_named_alone(caller: Caller) -> None:
    answer = await caller.chat(model=None, models=["openai/gpt-4.1-mini", "openai/gpt-4.1-nano"])
    assert answer.json["model"] == "openai/gpt-4.1-mini"
