"""Generations that hide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller, Clock


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


async def test_the_id_is_nowhere_but_in_the_bill(caller: Caller) -> None:
    caller.suffer("hide_generation_id")
    answer = await caller.chat()
    assert "X-Generation-Id" not in answer.headers
    assert billed(caller).id not in answer.body.decode()
    assert billed(caller).faults == ("hide_generation_id",)


async def test_the_id_never_resolves(caller: Caller, clock: Clock) -> None:
    caller.suffer("generation_never")
    answer = (await caller.chat()).json
    clock.now_s += 10**6
    assert (await caller.call(f"/generation?id={answer['id']}")).status == 404


@pytest.mark.parametrize("bills_usage", [True, False])
async def test_two_sources_disagree_and_one_is_billed(caller: Caller, bills_usage: bool) -> None:
    caller.suffer("wrong_generation_cost", factor=3, bills_usage=bills_usage)
    answer = (await caller.chat()).json
    told = answer["usage"]["cost"]
    found = (await caller.call(f"/generation?id={answer['id']}")).json["data"]["total_cost"]
    assert found == told * 3
    assert billed(caller).cost_usd == (told if bills_usage else found)


async def test_counters_lag(caller: Caller, clock: Clock) -> None:
    caller.suffer("key_usage_lag", lag_s=30)
    await caller.chat()
    assert (await caller.call("/key")).json["data"]["usage"] == 0
    clock.now_s += 30
    assert (await caller.call("/key")).json["data"]["usage"] == billed(caller).cost_usd
