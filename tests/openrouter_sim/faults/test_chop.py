"""Arbitrary pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


@pytest.mark.parametrize("stream", [False, True])
async def test_the_bytes_are_the_same_however_they_are_cut(caller: Caller, stream: bool) -> None:
    caller.suffer("chop", size_bytes=3)
    answer = await caller.chat("[[sim text='schöne Grüße']]", stream=stream)
    assert "schöne Grüße" in answer.body.decode()
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == billed(caller).cost_usd


async def test_a_cut_still_comes_after_the_pieces(caller: Caller) -> None:
    rules = (FaultRule(make_fault("silent_close")), FaultRule(make_fault("chop")))
    caller.sim.scenario = Scenario(faults=rules)
    assert (await caller.chat(stream=True)).broken
