"""An error as the first event."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


@pytest.mark.parametrize("done", [False, True])
async def test_the_error_is_all_there_is_and_costs_nothing(caller: Caller, done: bool) -> None:
    caller.suffer("error_first", done=done)
    answer = await caller.chat(stream=True)
    assert answer.status == 200
    assert answer.events[0]["error"]["code"] == "server_error"
    assert answer.events[0]["choices"][0]["finish_reason"] == "error"
    assert answer.events[1:] == (["[DONE]"] if done else [])
    assert billed(caller).cost_usd == 0
    assert billed(caller).outcome == "error"


async def test_a_whole_body_can_be_an_error_with_status_200(caller: Caller) -> None:
    caller.suffer("error_first")
    answer = await caller.chat()
    assert (answer.status, answer.json["error"]["code"]) == (200, 502)
    assert billed(caller).cost_usd == 0


async def test_the_prompt_can_be_charged_all_the_same(caller: Caller) -> None:
    caller.suffer("error_first", charge=True)
    await caller.chat(stream=True)
    assert billed(caller).cost_usd == billed(caller).prompt_tokens * Decimal("0.0000001")
