"""`/messages`, Anthropic's API. Its `input_tokens` does not count cached tokens, and its errors have their own types.

Source: openrouter.ai/docs/api_reference (messages), docs.anthropic.com/en/api/messages-streaming, 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from openrouter_sim.base.errors import ApiError, StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape, event
from openrouter_sim.calls.scenario import Scenario, ToolCall
from openrouter_sim.shapes.prompt import SimPrompt, request_of

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
ERROR_TYPES = {
    "authentication": "authentication_error",
    "permission_denied": "permission_error",
    "payment_required": "billing_error",
    "not_found": "not_found_error",
    "image_not_found": "not_found_error",
    "rate_limit_exceeded": "rate_limit_error",
    "provider_overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "provider_unavailable": "api_error",
    "server": "api_error",
    "unmapped": "api_error",
}
"""`error_type` to Anthropic's `type`; all others are `invalid_request_error`."""


class SimMessages(SimShape):
    """Anthropic's Messages API."""

    api = "messages"

    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise bad_request("messages: expected a list that is not empty")
        prompt = SimPrompt(scenario, family)
        prompt.add_tools(body.get("tools"))
        if body.get("system"):
            prompt.add_message("system", body["system"])
        last_text, last_role = "", "user"
        for message in messages:
            if not isinstance(message, dict) or message.get("role") not in {"user", "assistant", "system"}:
                raise bad_request("messages: expected objects with the role user or assistant")
            text = prompt.add_message(message["role"], message.get("content"))
            if message["role"] == "user":
                last_text, last_role = text, "tool" if _has_result(message.get("content")) else "user"
        return request_of(body, prompt, (last_text, last_role), scenario, "max_tokens")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the message."""
        content = [_block(call, index, part) for index, part in enumerate(call.reply.parts)]
        return call.with_usage({**_head(call), "content": content, **_stop(call)}, _usage(call))

    def stream(self, call: SimCall) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the events of Anthropic's streams, in their order."""
        start = {**_head(call), "content": [], "stop_reason": None, "stop_sequence": None}
        start["usage"] = {**_input_usage(call), "output_tokens": 1}
        blocks = [data for index, part in enumerate(call.reply.parts) for data in _block_events(call, index, part)]
        usage = _usage(call, with_cost=call.scenario.messages_cost)
        end = call.with_usage({"type": "message_delta", "delta": _stop(call)}, usage)
        return (
            [_event({"type": "message_start", "message": start}), _event({"type": "ping"})],
            [_event(data) for data in blocks],
            [_event(end), _event({"type": "message_stop"})],
        )

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a delta of the first block."""
        return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return Anthropic's error body."""
        return _error(error, generation_id)

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the error event."""
        return _event(_error(error, call.shown_id))


def _error(error: ApiError | StreamError, request_id: str | None) -> JsonObject:
    kind = ERROR_TYPES.get(error.error_type, "invalid_request_error")
    inner = {"type": kind, "message": error.message, "error_type": error.error_type}
    return {"type": "error", "error": inner, "request_id": request_id}


def _event(data: JsonObject) -> bytes:
    return event(data, str(data["type"]))


def _head(call: SimCall) -> JsonObject:
    return {
        "id": call.shown_id,
        "type": "message",
        "role": "assistant",
        "model": call.model.id,
        "provider": call.endpoint.provider,
        "container": None,
    }


def _stop(call: SimCall) -> JsonObject:
    return {"stop_reason": STOP_REASONS.get(call.reply.finish, "end_turn"), "stop_sequence": None}


def _input_usage(call: SimCall) -> JsonObject:
    tokens = call.tokens
    return {
        "input_tokens": tokens.prompt - (0 if call.scenario.messages_input_whole else tokens.cached + tokens.written),
        "cache_creation_input_tokens": tokens.written,
        "cache_read_input_tokens": tokens.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.write_5m,
            "ephemeral_1h_input_tokens": tokens.write_1h,
        },
    }


def _usage(call: SimCall, *, with_cost: bool = True) -> JsonObject:
    usage: JsonObject = {
        **_input_usage(call),
        "output_tokens": call.tokens.completion,
        "output_tokens_details": {"thinking_tokens": call.tokens.reasoning},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": call.service_tier or "standard",
    }
    costs = call.cost_fields("upstream_inference_prompt_cost", "upstream_inference_completions_cost")
    return {**usage, **costs} if with_cost else usage


def _block(call: SimCall, index: int, part: ToolCall | str) -> JsonObject:
    if isinstance(part, ToolCall):
        tool_id = f"toolu_{call.id[-20:]}{index}"
        return {"type": "tool_use", "id": tool_id, "name": part.name, "input": _arguments(part)}
    if part == "reasoning":
        return {"type": "thinking", "thinking": "Thinking.", "signature": "c2lt"}
    return {"type": "text", "text": call.reply.text}


def _block_events(call: SimCall, index: int, part: ToolCall | str) -> Iterator[JsonObject]:
    block = _block(call, index, part)
    if isinstance(part, ToolCall):
        empty: JsonObject = {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part.arguments}]
    elif part == "reasoning":
        empty = {"thinking": "", "signature": ""}
        deltas = [{"type": f"{name}_delta", name: block[name]} for name in empty]
    else:
        empty = {"text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in call.reply.pieces]
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _arguments(tool_call: ToolCall) -> object:
    try:
        return json.loads(tool_call.arguments)
    except ValueError:
        return {}


def _has_result(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )
