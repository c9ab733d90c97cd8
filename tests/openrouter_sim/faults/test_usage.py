"""What the usage object says about the cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


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
