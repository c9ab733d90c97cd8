"""`/messages`, Anthropic's API. Its `input_tokens` does not count cached tokens, and its errors have their own types.

Source: openrouter.ai/docs/api_reference (messages), docs.anthropic.com/en/api/messages-streaming, 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from openrouter_sim.base.errors import ApiError, StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape
from openrouter_sim.calls.events import event, spread
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario, ToolCall
from openrouter_sim.shapes.prompt import SimPrompt, bound_of, mark_of

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

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise bad_request("messages: expected a list that is not empty")
        prompt = SimPrompt(scenario)
        prompt.add_tools(body.get("tools"), tokenizer)
        if body.get("system"):
            prompt.add_message("system", body["system"])
        last_text, last_role = "", "user"
        for message in messages:
            if not isinstance(message, dict) or message.get("role") not in {"user", "assistant", "system"}:
                raise bad_request("messages: expected objects with the role user or assistant")
            text = prompt.add_message(message["role"], message.get("content"))
            if message["role"] == "user":
                last_text, last_role = text, "tool" if _has_result(message.get("content")) else "user"
        prompt.mark_last(mark_of(body))
        bound = bound_of(body, scenario, "max_tokens")
        return SimRequest(body, body.get("stream") is True, bound, prompt.segments, last_text, last_role)

    def whole(self, call: SimCall) -> JsonObject:
        """Return the message."""
        body = {**_head(call), "content": [_block(call, i) for i in range(_block_count(call))], **_stop(call)}
        usage = call.usage(_usage(call))
        return body if usage is None else {**body, "usage": usage}

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the events of Anthropic's streams, in their order."""
        total = call.tokens.completion
        start = {**_head(call), "content": [], "stop_reason": None, "stop_sequence": None}
        start["usage"] = {**_input_usage(call), "output_tokens": 1}
        yield Frame(_event({"type": "message_start", "message": start}))
        yield Frame(_event({"type": "ping"}))
        deltas = [pair for index in range(_block_count(call)) for pair in _block_events(call, index)]
        for data, tokens in zip(deltas, spread(len(deltas), total), strict=True):
            yield Frame(_event(data), tokens)
        delta = {"type": "message_delta", "delta": _stop(call)}
        usage = call.usage(_stream_usage(call))
        yield Frame(_event(delta if usage is None else {**delta, "usage": usage}), total, settles=True)
        yield Frame(_event({"type": "message_stop"}), total)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a delta of the first block."""
        return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return Anthropic's error body."""
        kind = ERROR_TYPES.get(error.error_type, "invalid_request_error")
        inner = {"type": kind, "message": error.message, "error_type": error.error_type}
        return {"type": "error", "error": inner, "request_id": generation_id}

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the error event."""
        kind = ERROR_TYPES.get(error.error_type, "invalid_request_error")
        inner = {"type": kind, "message": error.message, "error_type": error.error_type}
        return _event({"type": "error", "error": inner, "request_id": call.shown_id})


def _event(data: JsonObject) -> bytes:
    return event(data, str(data["type"]))


def _head(call: SimCall) -> JsonObject:
    return {
        "id": call.shown_id,
        "type": "message",
        "role": "assistant",
        "model": call.model_id,
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


def _usage(call: SimCall) -> JsonObject:
    return {
        **_input_usage(call),
        "output_tokens": call.tokens.completion,
        "output_tokens_details": {"thinking_tokens": call.tokens.reasoning},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": call.service_tier or "standard",
        "cost": call.stated_cost,
        "is_byok": call.is_byok,
        "cost_details": call.cost_details("upstream_inference_prompt_cost", "upstream_inference_completions_cost"),
    }


def _stream_usage(call: SimCall) -> JsonObject:
    usage = _usage(call)
    if not call.scenario.messages_cost:
        for name in ("cost", "is_byok", "cost_details"):
            del usage[name]
    return usage


def _block_count(call: SimCall) -> int:
    reply = call.reply
    return bool(reply.reasoning) + (bool(reply.pieces) or not reply.tool_calls) + len(reply.tool_calls)


def _part(call: SimCall, index: int) -> ToolCall | str:
    reply = call.reply
    parts: list[ToolCall | str] = ["thinking"] if reply.reasoning else []
    if reply.pieces or not reply.tool_calls:
        parts.append("text")
    return [*parts, *reply.tool_calls][index]


def _block(call: SimCall, index: int) -> JsonObject:
    part = _part(call, index)
    if part == "thinking":
        return {"type": "thinking", "thinking": "Thinking.", "signature": "c2lt"}
    if isinstance(part, ToolCall):
        return {**_tool_use(call, index, part), "input": _arguments(part)}
    return {"type": "text", "text": call.reply.text}


def _block_events(call: SimCall, index: int) -> Iterator[JsonObject]:
    part = _part(call, index)
    if isinstance(part, ToolCall):
        start = {**_tool_use(call, index, part), "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part.arguments}]
    elif part == "thinking":
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": "Thinking."}, {"type": "signature_delta", "signature": "c2lt"}]
    else:
        start = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in call.reply.pieces]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _tool_use(call: SimCall, index: int, tool_call: ToolCall) -> JsonObject:
    return {"type": "tool_use", "id": f"toolu_{call.id[-20:]}{index}", "name": tool_call.name}


def _arguments(tool_call: ToolCall) -> object:
    try:
        return json.loads(tool_call.arguments)
    except ValueError:
        return {}


def _has_result(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )
