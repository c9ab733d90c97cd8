"""The bill as others read it."""

from decimal import Decimal

import pytest

from openrouter_sim.billing.bill import Bill, KeyBill, SimGeneration
from openrouter_sim.billing.prices import SimTokens


def bill() -> Bill:
    generation = SimGeneration(
        id="gen-1",
        key_hash="h",
        model="m",
        provider="P",
        tag="p",
        api="chat",
        streamed=True,
        tokens=SimTokens(prompt=10, cached=4, write_5m=2, write_1h=1, completion=5, reasoning=3),
        cost_usd=Decimal("1.60E-7"),
        reported_usd=Decimal(0),
        upstream_usd=None,
        cache_discount_usd=Decimal(0),
        finish_reason="stop",
        outcome="finished",
        created_s=0.0,
        visible_s=None,
    )
    return Bill(Decimal("1.60E-7"), {"h": KeyBill("run", Decimal("1.60E-7"), False, (generation,))})


def test_amounts_are_plain_decimal_text_and_cache_writes_are_one_number() -> None:
    shown = bill().to_json()
    assert shown["total_usd"] == shown["keys"]["h"]["total_usd"] == "0.00000016"
    row = shown["keys"]["h"]["generations"][0]
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (10, 4, 3)
    assert (row["completion_tokens"], row["reasoning_tokens"], row["cost_usd"]) == (5, 3, "0.00000016")


def test_a_summary_leaves_the_generations_out() -> None:
    assert bill().to_json(summary=True)["keys"]["h"] == {"name": "run", "total_usd": "0.00000016", "deleted": False}


def test_a_key_is_found_by_name() -> None:
    assert bill().named("run").generations[0].completion_tokens == 5
    with pytest.raises(KeyError):
        bill().named("other")
