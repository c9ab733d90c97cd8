"""Messages: cache left out of input_tokens, errors of their own kind."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim import Rule, Scenario

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller

pytestmark = pytest.mark.wire


MODEL = "anthropic/claude-sonnet-4.5"


async def ask(caller: Caller, text: str = "hi", **fields: Any) -> Answer:
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "provider": {"only": ["anthropic"]}, "max_tokens": 400, "messages": messages, **fields}
    return await caller.call("/messages?beta=true", body)


def system(ttl: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


async def test_input_tokens_leave_cached_and_written_ones_out(caller: Caller) -> None:
    text = "[[sim tokens=100 reasoning=40]]"
    first = (await ask(caller, text, system=system("1h"))).json["usage"]
    again = (await ask(caller, text, system=system("1h"))).json["usage"]
    assert (first["input_tokens"], first["cache_creation_input_tokens"], first["cache_read_input_tokens"]) == (
        13,
        2006,
        0,
    )
    assert first["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2006}
    assert (again["input_tokens"], again["cache_creation_input_tokens"], again["cache_read_input_tokens"]) == (
        13,
        0,
        2006,
    )
    assert first["cost"] == Decimal("0.013575")  # 13 x 3 + 2006 x 6 + 100 x 15, per million
    assert again["cost"] == Decimal("0.0021408")  # 13 x 3 + 2006 x 0.30 + 100 x 15
    assert first["output_tokens_details"]["thinking_tokens"] == 40


@pytest.mark.parametrize("has_cost", [True, False])
async def test_a_streams_cost_is_present_or_absent(caller: Caller, has_cost: bool) -> None:
    caller.sim.scenario = Scenario(messages_cost=has_cost)
    answer = await ask(caller, "[[sim text='hello there']]", stream=True)
    events = answer.events
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert b"event: message_start\ndata: " in answer.body
    assert "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta") == "hello there"
    assert events[-2]["usage"].get("cost") == (caller.sim.bill().total_usd if has_cost else None)


async def test_thinking_and_tools_are_blocks(caller: Caller) -> None:
    text = """[[sim tokens=60 reasoning=20 tool=run args='{"a": 1}']]"""
    whole = (await ask(caller, text)).json
    assert [block["type"] for block in whole["content"]] == ["thinking", "tool_use"]
    assert (whole["content"][1]["input"], whole["stop_reason"]) == ({"a": 1}, "tool_use")
    events = (await ask(caller, text, stream=True)).events
    assert [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"] == [
        "thinking",
        "tool_use",
    ]
    broken = (await ask(caller, "[[sim tool=run args='{']]")).json
    assert broken["content"][0]["input"] == {}


async def test_a_tool_result_has_the_role_tool(caller: Caller) -> None:
    caller.sim.scenario = Scenario(replies=(Rule(role="tool", contains="42", text="done"), Rule(text="what")))
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]}
    messages = [{"role": "user", "content": [result]}]
    assert (await ask(caller, messages=messages)).json["content"][0]["text"] == "done"


async def test_errors_have_anthropics_types(caller: Caller) -> None:
    unknown = await ask(caller, model="nope")
    assert (unknown.status, unknown.json["error"]["type"], unknown.json["request_id"]) == (404, "not_found_error", None)
    key, _ = await caller.new_key(0)
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    spent = await caller.call("/messages", body, key=key)
    assert (spent.status, spent.json["error"]["type"]) == (403, "permission_error")
    caller.suffer("http_error", status=402)
    refused = await ask(caller)
    assert refused.json["error"]["type"] == "billing_error"
    assert refused.json["request_id"] == refused.headers["X-Generation-Id"]
    caller.suffer("error_mid")
    assert (await ask(caller, stream=True)).events[-1]["type"] == "error"
    malformed: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"max_tokens": 0},
    ]
    for fields in malformed:
        assert (await ask(caller, **fields)).status == 400
