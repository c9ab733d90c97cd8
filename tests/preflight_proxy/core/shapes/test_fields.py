"""What real clients send passes whole, and a refused field says what it means for money."""

import json

import pytest

from preflight_proxy.core.shapes import fields
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.request_writer import write_request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, read

FUNCTION = {"type": "function", "function": {"name": "bash", "description": "d", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command":"ls"}'}}
HISTORY = [
    {"role": "system", "content": "s"},
    USER,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
        "reasoning_details": [{"type": "reasoning.text", "text": "t"}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "out"},
]

PI: dict[str, object] = {
    "model": "anthropic/claude-sonnet-4.5",
    "messages": HISTORY,
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": False,
    "max_completion_tokens": 32_000,
    "tools": [FUNCTION] * 4,
    "reasoning": {"effort": "medium"},
}
OPENAI: dict[str, object] = {
    "model": "openai/gpt-4.1-nano",
    "messages": HISTORY,
    "temperature": 0.2,
    "top_p": 1,
    "n": 1,
    "stop": ["x"],
    "seed": 7,
    "logprobs": True,
    "top_logprobs": 2,
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "user": "u",
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "verbosity": "low",
    "reasoning_effort": "low",
    "modalities": ["text"],
}
LITELLM: dict[str, object] = {
    "model": "anthropic/claude-sonnet-4.5",
    "messages": HISTORY,
    "usage": {"include": True},
    "tools": [FUNCTION],
    "provider": {"order": ["anthropic"], "allow_fallbacks": False},
    "transforms": [],
}
OPENCODE: dict[str, object] = {
    "model": "a/b",
    "messages": HISTORY,
    "stream": True,
    "max_tokens": 32_000,
    "tools": [FUNCTION] * 10,
    "usage": {"include": True},
}
QWEN: dict[str, object] = {
    "model": "a/b",
    "messages": HISTORY,
    "stream": True,
    "max_tokens": 8000,
    "metadata": {"sessionId": "s"},
    "stream_options": {},
}
CLAUDE_CODE: dict[str, object] = {
    "model": "anthropic/claude-sonnet-4.5",
    "max_tokens": 32_000,
    "stream": True,
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": "user_1_account__session_2"},
    "system": [{"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "Bash", "description": "d", "input_schema": {"type": "object"}}] * 24,
    "output_config": {"effort": "high"},
    "temperature": 1,
    "messages": [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls", "type": "anything"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [
                        {"type": "text", "text": "out"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
                    ],
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "doc"},
                    "title": "d",
                },
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
            ],
        },
    ],
}
CODEX: dict[str, object] = {
    "model": "openai/gpt-5.1-codex",
    "instructions": "You are",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "s"}],
            "content": None,
            "encrypted_content": "AA",
        },
        {"type": "function_call", "name": "shell", "arguments": '{"cmd":["ls"]}', "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": '{"output":"x"}'},
        {
            "type": "custom_tool_call",
            "name": "apply_patch",
            "input": "*** Begin Patch",
            "call_id": "d",
            "status": "completed",
        },
        {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "ok"}]},
        {"type": "tool_search_output", "tools": [{"type": "function", "name": "z", "parameters": {}}], "call_id": "e"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
    ],
    "tools": [
        {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}},
        {
            "type": "custom",
            "name": "apply_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        },
        {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "js", "parameters": {}}]},
        {"type": "tool_search", "execution": "client", "parameters": {}},
        {"type": "web_search", "external_web_access": False},
        {"type": "image_generation", "output_format": "png"},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "client_metadata": {"x": "y"},
}
HOSTED = [{"type": "web_search", "external_web_access": True}]
"""What codex declares where its sandbox is off."""

CLIENTS: dict[str, tuple[Shape, dict[str, object], tuple[str, ...]]] = {
    "pi": (CHAT, PI, ()),
    "openai": (CHAT, OPENAI, ()),
    "litellm": (CHAT, LITELLM, ()),
    "opencode": (CHAT, OPENCODE, ()),
    "qwen": (CHAT, QWEN, ()),
    "claude code": (MESSAGES, CLAUDE_CODE, ()),
    "codex": (RESPONSES, CODEX, ("client_metadata", "tools.web_search", "tools.image_generation")),
    "codex with full access": (RESPONSES, {**CODEX, "tools": HOSTED}, ("client_metadata", "tools.web_search")),
}


@each("client", CLIENTS)
def test_what_a_real_client_sends_is_served_and_its_fields_reach_upstream(client: str) -> None:
    shape, body, dropped = CLIENTS[client]
    request = read(shape, body)
    assert request.dropped == dropped
    sent = json.loads(write_request(request, bound=request.bound, only=("t",), max_price={}))
    for name in body.keys() - {"client_metadata", "provider", "tools"}:
        assert sent[name] == body[name]
    assert all(tool.get("type") not in ("web_search", "image_generation") for tool in sent.get("tools", []))


def test_a_refusal_names_the_field_and_its_price() -> None:
    with pytest.raises(BadRequest, match=r"'plugins'.*billed beside the tokens"):
        fields.check({"plugins": b'[{"id":"web"}]'}, {})


def test_lists_of_models_are_compared_without_regard_to_case() -> None:
    rule = fields.same_model("A/b")
    assert rule(["a/B", {"model": "a/b"}]) is None
    assert rule(["c/d"]) is not None


def test_a_shapes_own_rule_comes_before_the_common_ones() -> None:
    rule = fields.absent("because")
    with pytest.raises(BadRequest, match="because"):
        fields.check({"store": b"true"}, {"store": rule})
    assert fields.check({"store": b"false", "other": b"{"}, {"store": rule}) == {"store": False}


@each("raw, tokens", [(b"null", None), (b"0", 0), (b"16", 16), (b"1e3", 1000), (b"2.0", 2)])
def test_a_number_of_tokens_is_whole(raw: bytes, tokens: int | None) -> None:
    assert fields.whole({"max_tokens": raw}, "max_tokens") == tokens
    assert fields.whole({}, "max_tokens") is None


@pytest.mark.parametrize("body", [{"store": True}, {"prompt": {"id": "p"}}])
def test_responses_keep_no_state_upstream(body: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        read(RESPONSES, {"model": "a/b", "input": "x", **body})
