"""Providers that take their time."""

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


async def test_a_slow_answer_is_the_same_answer(caller: Caller) -> None:
    caller.suffer("slow", first_s=0.02, each_s=0.001)
    assert (await caller.chat(stream=True)).events[-2]["usage"]["cost"] == billed(caller).cost_usd


async def test_a_stalled_stream_goes_on(caller: Caller) -> None:
    caller.suffer("stall", after=2, stall_s=0.02)
    assert (await caller.chat(stream=True)).events[-1] == "[DONE]"
