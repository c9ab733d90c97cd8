"""Charges that the price list, the bound, or the generation record does not show; what the usage object says of the cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller
    from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire


async def test_more_is_charged_than_listed(caller: Caller) -> None:
    fair = (await caller.chat("[[sim tokens=100]]")).json["usage"]["cost"]
    caller.suffer("price_rise", factor=2)
    assert (await caller.chat("[[sim tokens=100]]")).json["usage"]["cost"] == 2 * fair


async def test_an_endpoint_serves_that_nobody_listed(caller: Caller) -> None:
    caller.suffer("extra_endpoint", factor=3)
    usage = (await caller.chat("[[sim tokens=100]]", provider={})).json
    assert usage["provider"] == "Newcomer"
    assert caller.billed.tag == "newcomer"
    assert usage["usage"]["cost"] == 3 * (10 * Decimal("1e-7") + 100 * Decimal("4e-7"))
    listed = (await caller.call("/models/openai/gpt-4.1-nano/endpoints")).json["data"]["endpoints"]
    assert "newcomer" not in [endpoint["tag"] for endpoint in listed]


async def test_the_completion_is_longer_than_asked_and_billed(caller: Caller) -> None:
    caller.suffer("wrong_bound", factor=4)
    usage = (await caller.chat("[[sim tokens=500]]", max_tokens=20)).json["usage"]
    assert usage["completion_tokens"] == 80
    assert usage["cost"] == caller.billed.cost_usd
    caller.suffer("wrong_bound", tokens=300)
    assert (await caller.chat(max_tokens=20)).json["usage"]["completion_tokens"] == 300


async def test_without_bound_there_is_none_to_break(caller: Caller) -> None:
    caller.suffer("wrong_bound")
    assert (await caller.chat("[[sim tokens=30]]")).json["usage"]["completion_tokens"] == 30


async def test_the_id_is_nowhere_but_in_the_bill(caller: Caller) -> None:
    caller.suffer("hide_generation_id")
    answer = await caller.chat()
    assert "X-Generation-Id" not in answer.headers
    assert caller.billed.id not in answer.body.decode()
    assert caller.billed.faults == ("hide_generation_id",)


async def test_the_id_never_resolves(caller: Caller, clock: FakeClock) -> None:
    caller.suffer("generation_never")
    answer = (await caller.chat()).json
    clock.advance(10**6)
    assert (await caller.call(f"/generation?id={answer['id']}")).status == 404


@pytest.mark.parametrize("bills_usage", [True, False])
async def test_two_sources_disagree_and_one_is_billed(caller: Caller, bills_usage: bool) -> None:
    caller.suffer("wrong_generation_cost", factor=3, bills_usage=bills_usage)
    answer = (await caller.chat()).json
    told = answer["usage"]["cost"]
    found = (await caller.call(f"/generation?id={answer['id']}")).json["data"]["total_cost"]
    assert found == told * 3
    assert caller.billed.cost_usd == (told if bills_usage else found)


async def test_counters_lag(caller: Caller, clock: FakeClock) -> None:
    caller.suffer("key_usage_lag", lag_s=30)
    await caller.chat()
    assert (await caller.call("/key")).json["data"]["usage"] == 0
    clock.advance(30)
    assert (await caller.call("/key")).json["data"]["usage"] == caller.billed.cost_usd


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_or_its_cost_is_missing_and_billed_all_the_same(caller: Caller, stream: bool) -> None:
    caller.suffer("missing_usage")
    answer = await caller.chat(stream=stream)
    assert b'"usage"' not in answer.body
    assert caller.billed.cost_usd > 0
    caller.suffer("null_cost")
    answer = await caller.chat(stream=stream)
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] is None


async def test_a_cost_can_be_written_as_floats_print(caller: Caller) -> None:
    caller.suffer("repr_float")
    answer = await caller.chat("[[sim tokens=60]]")
    assert f'"cost":{float(caller.billed.cost_usd)!r},'.encode() in answer.body


async def test_a_hit_has_zero_usage_no_cost_and_a_header(caller: Caller) -> None:
    caller.suffer("cache_hit")
    answer = await caller.chat()
    assert answer.headers["X-OpenRouter-Cache-Status"] == "HIT"
    assert answer.json["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert caller.billed.cost_usd == 0
    assert caller.billed.outcome == "cache_hit"


async def test_tokens_are_told_and_nothing_is_charged(caller: Caller) -> None:
    caller.suffer("zero_cost_with_tokens")
    usage = (await caller.chat()).json["usage"]
    assert usage["completion_tokens"] > 0
    assert usage["cost"] == 0 == caller.billed.cost_usd


async def test_only_the_fee_is_charged_and_the_providers_bill_is_told(caller: Caller) -> None:
    caller.suffer("byok", fee=Decimal("0.05"))
    usage = (await caller.chat("[[sim tokens=100]]")).json["usage"]
    assert usage["is_byok"] is True
    assert usage["cost"] == usage["cost_details"]["upstream_inference_cost"] * Decimal("0.05") == caller.billed.cost_usd
    data = (await caller.call("/key")).json["data"]
    assert data["byok_usage"] == usage["cost_details"]["upstream_inference_cost"]
