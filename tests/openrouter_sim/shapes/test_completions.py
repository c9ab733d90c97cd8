"""Chat and legacy completions: usage by hand, and the forms of a stream."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim import Rule, Scenario

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller

pytestmark = pytest.mark.wire


async def test_usage_is_counted_and_priced_by_hand(caller: Caller) -> None:
    usage = (await caller.chat("[[sim tokens=100 reasoning=30]]")).json["usage"]
    assert usage["prompt_tokens"] == 13  # "user" + newline + 31 characters are 9 tokens, the template adds 4
    assert (usage["completion_tokens"], usage["total_tokens"]) == (100, 113)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 30
    assert usage["cost"] == Decimal("0.0000413")
    details = usage["cost_details"]
    assert details["upstream_inference_prompt_cost"] == Decimal("0.0000013")
    assert details["upstream_inference_completions_cost"] == Decimal("0.00004")


async def test_tools_and_schemas_are_part_of_the_prompt(caller: Caller) -> None:
    tool = {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}
    plain = (await caller.chat()).json["usage"]["prompt_tokens"]
    compact = (await caller.chat(tools=[tool])).json["usage"]["prompt_tokens"]
    caller.sim.scenario = Scenario(tools_indent=True)
    indented = (await caller.chat(tools=[tool])).json["usage"]["prompt_tokens"]
    assert plain < compact < indented
    schema = {"type": "json_schema", "json_schema": {"name": "x"}}
    assert (await caller.chat(response_format=schema)).json["usage"]["prompt_tokens"] > plain


async def test_a_stream_ends_in_finish_usage_and_done(caller: Caller) -> None:
    answer = await caller.chat("[[sim text='hello there you']]", stream=True)
    events = answer.events
    assert answer.body.startswith(b": OPENROUTER PROCESSING\n\n")
    assert events[-1] == "[DONE]"
    text = "".join(event["choices"][0]["delta"]["content"] for event in events[:-1])
    assert text == "hello there you"
    assert [event["choices"][0]["finish_reason"] for event in events[-3:-1]] == ["stop", "stop"]
    assert "usage" not in events[-3]
    assert events[-2]["usage"]["cost"] == caller.sim.bill().total_usd


@pytest.mark.parametrize(("mode", "choices", "from_end"), [("empty", 0, -2), ("merged", 1, -2), ("choice", 1, -2)])
async def test_the_usage_event_has_three_forms(caller: Caller, mode: Any, choices: int, from_end: int) -> None:
    caller.sim.scenario = Scenario(usage_chunk=mode)
    events = (await caller.chat(stream=True)).events
    assert len(events[from_end]["choices"]) == choices
    finishes = [c["finish_reason"] for event in events[:-1] for c in event["choices"] if c["finish_reason"]]
    assert len(finishes) == (2 if mode == "choice" else 1)


async def test_tool_calls_come_whole_and_in_pieces(caller: Caller) -> None:
    text = """[[sim tool=run args='{"a": 1}']]"""
    call = (await caller.chat(text)).json["choices"][0]["message"]["tool_calls"][0]
    assert call["function"] == {"name": "run", "arguments": '{"a": 1}'}
    events = (await caller.chat(text, stream=True)).events
    pieces = [t for event in events[:-1] for t in event["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a": 1}'
    assert pieces[0]["function"]["name"] == "run"


async def test_a_tool_result_is_what_rules_look_at(caller: Caller) -> None:
    caller.sim.scenario = Scenario(replies=(Rule(role="tool", contains="42", text="done"), Rule(text="what")))
    called = [{"id": "c", "type": "function", "function": {"name": "run", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "go"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": None, "tool_calls": called},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ]
    answer = (await caller.chat(messages=messages)).json
    assert answer["choices"][0]["message"]["content"] == "done"
    assert answer["usage"]["prompt_tokens"] > 800


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [5]}]},
        {"tools": {"a": 1}},
        {"tools": [1]},
        {"max_tokens": 0},
        {"max_tokens": "9"},
        {"max_completion_tokens": True},
    ],
)
async def test_what_is_malformed_is_a_400(caller: Caller, fields: Any) -> None:
    assert (await caller.chat(**fields)).status == 400
    assert not caller.sim.bill().total_usd


async def complete(caller: Caller, **fields: Any) -> Answer:
    return await caller.call("/completions", {"model": "openai/gpt-4.1-nano", "prompt": "abcdefgh", **fields})


async def test_text_comes_back_with_chats_usage(caller: Caller) -> None:
    answer = (await complete(caller, max_tokens=5, provider={"only": ["openai"]})).json
    assert answer["choices"][0]["text"]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (2, 5)
    assert answer["usage"]["cost"] == Decimal("0.0000022") == caller.sim.bill().total_usd


async def test_streams_end_in_usage_and_done(caller: Caller) -> None:
    events = (await complete(caller, stream=True)).events
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"]["cost"] == caller.sim.bill().total_usd


async def test_an_error_ends_a_stream(caller: Caller) -> None:
    for form in ({}, {"bare": True}, {"choice_only": True}):
        caller.suffer("error_mid", after=2, **form)
        assert "error" in str((await complete(caller, stream=True)).events[-1])
    caller.suffer("never_ends")
    assert (await complete(caller, prompt=5)).status == 400
