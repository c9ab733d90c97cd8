"""The response cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


async def test_a_hit_has_zero_usage_no_cost_and_a_header(caller: Caller) -> None:
    caller.suffer("cache_hit")
    answer = await caller.chat()
    assert answer.headers["X-OpenRouter-Cache-Status"] == "HIT"
    assert answer.json["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert billed(caller).cost_usd == 0
    assert billed(caller).outcome == "cache_hit"
