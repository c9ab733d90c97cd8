"""An error in the middle."""

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
async def test_deltas_come_first_and_then_the_error(caller: Caller, done: bool) -> None:
    caller.suffer("error_mid", after=3, done=done)
    events = (await caller.chat("[[sim tokens=100]]", stream=True)).events
    error = events[-2] if done else events[-1]
    assert error["error"]["code"] == 502
    assert len(events) == 3 + done
    assert billed(caller).cost_usd == 0
    assert billed(caller).outcome == "error"
    assert billed(caller).completion_tokens > 0


async def test_the_error_can_have_less_than_the_usual_form(caller: Caller) -> None:
    caller.suffer("error_mid", choice_only=True)
    last = (await caller.chat(stream=True)).events[-1]
    assert "error" not in last
    assert last["choices"][0]["native_finish_reason"] == "MALFORMED_FUNCTION_CALL"
    caller.suffer("error_mid", bare=True)
    assert list((await caller.chat(stream=True)).events[-1]) == ["error"]


async def test_what_was_made_can_be_charged(caller: Caller) -> None:
    caller.suffer("error_mid", charge=True, after=4)
    await caller.chat("[[sim tokens=100]]", stream=True)
    made = billed(caller).completion_tokens
    assert billed(caller).cost_usd == billed(caller).prompt_tokens * Decimal("1e-7") + made * Decimal("4e-7")


async def test_a_whole_body_is_left_alone(caller: Caller) -> None:
    caller.suffer("error_mid")
    assert (await caller.chat()).json["usage"]["cost"] == billed(caller).cost_usd
