"""Streams that fail, stop, or never end."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def read_until(caller: Caller, text: bytes, count: int) -> None:
    body = {
        "model": "openai/gpt-4.1-nano",
        "stream": True,
        "messages": [{"role": "user", "content": "[[sim tokens=50]]"}],
    }
    headers = {"Authorization": f"Bearer {caller.sim.inference_key}"}
    answer = await caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body, headers=headers)
    seen = 0
    while seen < count:
        seen += text in await answer.content.readline()
    answer.close()
    await caller.sim.until(lambda: bool(caller.sim.bill().named("default").generations))


async def test_comments_drip_until_the_client_leaves(caller: Caller) -> None:
    caller.suffer("comment_drip", every_s=0.001)
    await read_until(caller, b": OPENROUTER", 20)
    assert caller.billed.outcome == "cancelled"


async def test_empty_deltas_follow_the_last_and_cost_nothing_more(caller: Caller) -> None:
    caller.suffer("never_ends", every_s=0.001)
    await read_until(caller, b'"content":""', 20)
    assert caller.billed.completion_tokens == 50


async def test_whole_bodies_are_left_alone(caller: Caller) -> None:
    for name in ("comment_drip", "never_ends"):
        caller.suffer(name)
        assert (await caller.chat()).json["usage"]["cost"] > 0


@pytest.mark.parametrize("done", [False, True])
async def test_the_error_is_all_there_is_and_costs_nothing(caller: Caller, done: bool) -> None:
    caller.suffer("error_first", done=done)
    answer = await caller.chat(stream=True)
    assert answer.status == 200
    assert answer.events[0]["error"]["code"] == "server_error"
    assert answer.events[0]["choices"][0]["finish_reason"] == "error"
    assert answer.events[1:] == (["[DONE]"] if done else [])
    assert caller.billed.cost_usd == 0
    assert caller.billed.outcome == "error"


async def test_a_whole_body_can_be_an_error_with_status_200(caller: Caller) -> None:
    caller.suffer("error_first")
    answer = await caller.chat()
    assert (answer.status, answer.json["error"]["code"]) == (200, 502)
    assert caller.billed.cost_usd == 0


async def test_the_prompt_can_be_charged_all_the_same(caller: Caller) -> None:
    caller.suffer("error_first", charge=True)
    await caller.chat(stream=True)
    assert caller.billed.cost_usd == caller.billed.prompt_tokens * Decimal("0.0000001")


@pytest.mark.parametrize("done", [False, True])
async def test_deltas_come_first_and_then_the_error(caller: Caller, done: bool) -> None:
    caller.suffer("error_mid", after=3, done=done)
    events = (await caller.chat("[[sim tokens=100]]", stream=True)).events
    error = events[-2] if done else events[-1]
    assert error["error"]["code"] == 502
    assert len(events) == 3 + done
    assert caller.billed.cost_usd == 0
    assert caller.billed.outcome == "error"
    assert caller.billed.completion_tokens > 0


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
    made = caller.billed.completion_tokens
    assert caller.billed.cost_usd == caller.billed.prompt_tokens * Decimal("1e-7") + made * Decimal("4e-7")


async def test_a_whole_body_is_left_alone(caller: Caller) -> None:
    caller.suffer("error_mid")
    assert (await caller.chat()).json["usage"]["cost"] == caller.billed.cost_usd


async def test_it_comes_before_the_usage(caller: Caller) -> None:
    caller.suffer("huge_event", size_bytes=200_000)
    events = (await caller.chat(stream=True)).events
    assert len(events[-3]["padding"]) == 200_000
    assert events[-2]["usage"]["cost"] == caller.billed.cost_usd
    assert (await caller.chat()).json["usage"]["cost"] > 0


async def test_a_slow_answer_is_the_same_answer(caller: Caller) -> None:
    caller.suffer("slow", first_s=0.02, each_s=0.001)
    assert (await caller.chat(stream=True)).events[-2]["usage"]["cost"] == caller.billed.cost_usd


async def test_a_stalled_stream_goes_on(caller: Caller) -> None:
    caller.suffer("stall", after=2, stall_s=0.02)
    assert (await caller.chat(stream=True)).events[-1] == "[DONE]"
