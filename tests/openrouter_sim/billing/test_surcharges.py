"""Tiers and searches."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim.billing.surcharges import search_cost, served_tier
from tests.support.cases import each

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller


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
