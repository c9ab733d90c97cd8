"""The cost lines of real calls say which conversation they belong to, why a cache missed, and what it saved."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from preflight_proxy.calls.cache_notes import CacheNotes
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import MODEL, World

RULES = "Keep to the rules of the house, every single one of them. " * 200
ASKED = SHAPES["/chat/completions"].read(
    b'{"model": "m/x", "messages": [{"role": "user", "content": "a"}]}', {}, "drop"
)


def talk(*texts: str, system: str = RULES) -> list[dict[str, Any]]:
    """A conversation: system text, then user and assistant in turn."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns]


async def say(world: World, messages: list[dict[str, Any]], model: str = MODEL) -> dict[str, Any]:
    async with world.post(messages=messages, model=model, max_tokens=16) as response:
        assert response.status == 200
        await response.read()
    await world.settled()
    return world.cost_lines()[-1]


@pytest.mark.wire
async def test_a_changed_system_text_is_named_in_the_line_of_the_call_that_paid_for_it(world: World) -> None:
    await world.open()
    first = await say(world, talk("Go."))
    second = await say(world, talk("Go.", "Going.", "On."))
    third = await say(world, talk("Go.", "Going.", "On.", system=f"It is 12:01. {RULES}"))
    assert [line["cache_miss"] for line in (first, second, third)] == ["first_call", None, "system"]
    assert len({line["conversation"] for line in (first, second, third)}) == 1
    assert second["cached_tokens"] >= 1024
    assert Decimal(second["cache_saved_usd"]) == Decimal(second["cached_tokens"]) * Decimal("0.000000075")
    assert (first["cache_saved_usd"], third["cache_saved_usd"]) == ("0", "0")


@pytest.mark.wire
async def test_nothing_of_a_prompt_stands_in_its_line(world: World) -> None:
    await world.open()
    line = await say(world, talk("Zanzibar."))
    assert "Zanzibar" not in str(line)
    assert "house" not in str(line)


def test_a_call_whose_endpoint_is_not_known_is_noted_without_a_saving() -> None:
    reading = Reading(provider="P", usage=CallUsage(cost_pusd=1, prompt_tokens=9))
    facts = CacheNotes(FakeClock()).add("a", ASKED, {}, CallFacts(), reading, 0.0)
    assert (facts.cache_miss, facts.cache_saved_pusd) == ("first_call", None)


def test_without_usage_the_facts_stay_as_they_are() -> None:
    facts = CallFacts(model="m/x")
    assert CacheNotes(FakeClock()).add("a", ASKED, {}, facts, Reading(), 0.0) is facts


def test_a_trace_that_fails_costs_no_settlement() -> None:
    broken = Reading(usage=CallUsage(cost_pusd=1, prompt_tokens="many"))  # type: ignore[arg-type]
    facts = CallFacts(model="m/x")
    assert CacheNotes(FakeClock()).add("a", ASKED, {}, facts, broken, 0.0) is facts
