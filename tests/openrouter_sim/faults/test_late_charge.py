"""Costs that come after an error."""

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


async def test_the_charge_follows_the_error(caller: Caller, clock: Clock) -> None:
    caller.suffer("late_charge", delay_s=5)
    answer = await caller.chat("[[sim tokens=100]]")
    assert answer.status == 504
    assert caller.sim.bill().total_usd == 0
    clock.now_s += 5
    assert billed(caller).completion_tokens == 100
    found = await caller.call(f"/generation?id={answer.headers['X-Generation-Id']}")
    assert found.json["data"]["total_cost"] == caller.sim.bill().total_usd > 0
