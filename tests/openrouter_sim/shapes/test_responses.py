"""Responses: names of their own, numbered events."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim import Rule, Scenario

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller

pytestmark = pytest.mark.wire


async def respond(caller: Caller, given: Any = "hi", **fields: Any) -> Answer:
    body = {"model": "openai/gpt-5-mini", "provider": {"only": ["openai"]}, "input": given, **fields}
    return await caller.call("/responses", body)


async def test_usage_has_its_own_names_and_includes_the_cache(caller: Caller) -> None:
    text = "x" * 8000 + "[[sim tokens=100 reasoning=40]]"
    await respond(caller, text)
    usage = (await respond(caller, text)).json["usage"]
    assert usage["input_tokens"] == 2013
    assert usage["input_tokens_details"] == {"cached_tokens": 1920, "cache_write_tokens": 0}
    assert (usage["output_tokens"], usage["output_tokens_details"]["reasoning_tokens"]) == (100, 40)
    assert usage["cost"] == Decimal("0.00027125")  # 93 x 0.25 + 1920 x 0.025 + 100 x 2, per million
    assert usage["cost_details"]["upstream_inference_output_cost"] == Decimal("0.0002")


REQUIRED = {
    *("id", "object", "created_at", "completed_at", "model", "status", "output", "error", "incomplete_details"),
    *("usage", "instructions", "metadata", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p"),
    *("frequency_penalty", "presence_penalty"),
}
"""What OpenRouter's own SDKs do not read a response without, and `usage`.

Source: openrouter.ai/openapi.yaml, 2026-10, `OpenResponsesResult`.
"""


async def test_a_response_has_all_that_the_api_requires(caller: Caller) -> None:
    whole = (await respond(caller, frequency_penalty=0.5)).json
    assert whole.keys() >= REQUIRED
    assert (whole["frequency_penalty"], whole["presence_penalty"]) == (Decimal("0.5"), None)
    assert whole["completed_at"] >= whole["created_at"]
    events = (await respond(caller, stream=True)).events
    opened, ended = events[0]["response"], events[-2]["response"]
    assert opened.keys() & ended.keys() >= REQUIRED
    assert (opened["completed_at"], opened["status"]) == (None, "in_progress")


async def test_a_stream_goes_from_created_to_completed(caller: Caller) -> None:
    events = (await respond(caller, "[[sim text='hello there']]", stream=True)).events
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert events[0]["response"]["usage"] is None
    assert [event["sequence_number"] for event in events[:-1]] == list(range(len(events) - 1))
    assert "".join(e["delta"] for e in events[:-1] if e["type"] == "response.output_text.delta") == "hello there"
    assert (events[-2]["type"], events[-1]) == ("response.completed", "[DONE]")
    assert events[-2]["response"]["usage"]["cost"] == caller.sim.bill().total_usd


async def test_a_bound_makes_it_incomplete(caller: Caller) -> None:
    whole = (await respond(caller, "[[sim tokens=500]]", max_output_tokens=20)).json
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    stream = await respond(caller, "[[sim tokens=500]]", max_output_tokens=20, stream=True)
    assert stream.events[-2]["type"] == "response.incomplete"


async def test_reasoning_and_calls_are_items(caller: Caller) -> None:
    text = """[[sim tokens=60 reasoning=20 tool=run args='{"a": 1}']]"""
    whole = (await respond(caller, text)).json
    assert [item["type"] for item in whole["output"]] == ["reasoning", "function_call"]
    events = (await respond(caller, text, stream=True)).events
    assert any(event["type"] == "response.function_call_arguments.done" for event in events[:-1])


async def test_a_function_output_has_the_role_tool(caller: Caller) -> None:
    caller.sim.scenario = Scenario(replies=(Rule(role="tool", contains="42", text="done"), Rule(text="what")))
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "function_call", "call_id": "c", "name": "run", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ]
    answer = (await respond(caller, given, instructions="be kind", tools=[{"type": "function", "name": "run"}])).json
    assert answer["output"][0]["content"][0]["text"] == "done"


async def test_event_lines_can_be_left_out(caller: Caller) -> None:
    caller.sim.scenario = Scenario(responses_events=False)
    assert b"event:" not in (await respond(caller, stream=True)).body


async def test_a_stream_fails_in_three_forms(caller: Caller) -> None:
    for form, kind in (({}, "response.failed"), ({"choice_only": True}, "response.error"), ({"bare": True}, "error")):
        caller.suffer("error_mid", **form)
        assert (await respond(caller, stream=True)).events[-1]["type"] == kind


@pytest.mark.parametrize(
    "fields", [{"store": True}, {"previous_response_id": "x"}, {"input": []}, {"input": [5]}, {"max_output_tokens": 0}]
)
async def test_state_and_malformed_input_are_refused(caller: Caller, fields: Any) -> None:
    assert (await caller.call("/responses", {"model": "openai/gpt-5-mini", "input": "hi", **fields})).status == 400


async def test_the_items_of_the_events_are_those_of_the_finished_response(caller: Caller) -> None:
    body = {"model": "openai/gpt-5-mini", "input": "[[sim reasoning=5 text='hello']]", "stream": True}
    events = (await caller.call("/responses", body)).events[:-1]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    assert [item["type"] for item in done] == ["reasoning", "message"]
