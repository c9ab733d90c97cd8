"""Usage objects that say less."""

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


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_or_its_cost_is_missing_and_billed_all_the_same(caller: Caller, stream: bool) -> None:
    caller.suffer("missing_usage")
    answer = await caller.chat(stream=stream)
    assert b'"usage"' not in answer.body
    assert billed(caller).cost_usd > 0
    caller.suffer("null_cost")
    answer = await caller.chat(stream=stream)
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] is None


async def test_a_cost_can_be_written_as_floats_print(caller: Caller) -> None:
    caller.suffer("repr_float")
    answer = await caller.chat("[[sim tokens=60]]")
    assert f'"cost":{float(billed(caller).cost_usd)!r},'.encode() in answer.body
