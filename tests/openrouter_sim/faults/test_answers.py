"""Answers that fail, stop, never end, lose their connection, or whose bytes are cut, packed or padded."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, make_fault

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


@pytest.mark.parametrize("name", ["silent_close", "reset"])
async def test_a_stream_breaks_and_its_tokens_so_far_are_billed(caller: Caller, name: str) -> None:
    caller.suffer(name, after=3)
    answer = await caller.chat("[[sim tokens=100]]", stream=True)
    assert answer.broken
    assert 0 < caller.billed.completion_tokens < 100
    assert caller.billed.outcome == "cancelled"


async def test_a_clean_end_without_done_is_no_broken_connection(caller: Caller) -> None:
    caller.suffer("silent_close", clean=True)
    answer = await caller.chat(stream=True)
    assert not answer.broken
    assert "[DONE]" not in answer.events


async def test_a_whole_body_breaks_in_its_middle_and_is_billed_in_full(caller: Caller) -> None:
    caller.suffer("silent_close")
    answer = await caller.chat("[[sim tokens=100]]")
    assert answer.broken
    assert caller.billed.completion_tokens == 100


async def test_a_reset_can_come_right_after_the_headers(caller: Caller) -> None:
    caller.suffer("reset", after=0)
    with contextlib.suppress(aiohttp.ClientError):
        assert (await caller.chat()).broken
    assert caller.billed.cost_usd > 0


async def test_the_answer_is_whole_and_promises_more(caller: Caller) -> None:
    caller.suffer("close_keepalive")
    answer = await caller.chat()
    assert not answer.broken
    assert answer.headers.get("Connection") != "close"
    assert answer.json["usage"]["cost"] == caller.billed.cost_usd


async def test_a_connection_can_be_gone_when_the_request_arrives(caller: Caller) -> None:
    caller.suffer("close_on_request")
    with pytest.raises(aiohttp.ClientError):
        await caller.chat()
    assert not caller.sim.bill().named("default").generations


@pytest.mark.parametrize("stream", [False, True])
async def test_the_bytes_are_the_same_however_they_are_cut(caller: Caller, stream: bool) -> None:
    caller.suffer("chop", size_bytes=3)
    answer = await caller.chat("[[sim text='schöne Grüße']]", stream=stream)
    assert "schöne Grüße" in answer.body.decode()
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == caller.billed.cost_usd


async def test_a_cut_still_comes_after_the_pieces(caller: Caller) -> None:
    rules = (FaultRule(make_fault("silent_close")), FaultRule(make_fault("chop")))
    caller.sim.scenario = Scenario(faults=rules)
    assert (await caller.chat(stream=True)).broken


@pytest.mark.parametrize("stream", [False, True])
async def test_the_body_is_gzip(caller: Caller, stream: bool) -> None:
    caller.suffer("gzip")
    answer = await caller.chat(stream=stream)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == caller.billed.cost_usd


async def test_blanks_come_first_and_streams_have_none(caller: Caller) -> None:
    caller.suffer("whitespace", lines=2)
    answer = await caller.chat()
    assert answer.body.startswith(b"         \n         \n{")
    assert answer.json["usage"]["cost"] == caller.billed.cost_usd
    assert (await caller.chat(stream=True)).body.startswith(b": OPENROUTER")


async def test_the_key_is_in_body_and_header(caller: Caller) -> None:
    caller.suffer("echo_key")
    answer = await caller.chat()
    assert answer.status == 400
    assert caller.sim.inference_key in answer.body.decode()
    assert caller.sim.inference_key in answer.headers["X-Debug-Authorization"]


async def test_the_key_is_in_an_answer_that_is_served(caller: Caller) -> None:
    caller.suffer("echo_key", status=200, escaped=True)
    answer = await caller.chat()
    assert answer.json["echo"] == f"Bearer {caller.sim.inference_key}"
    assert caller.sim.inference_key not in answer.body.decode()
    assert "\\u00" in answer.body.decode()
