"""`/chat/completions`, and `/completions`, the legacy text API.

Source: openrouter.ai/docs/api_reference/{overview,streaming}, cookbook/administration/usage-accounting, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openrouter_sim.base.errors import StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject, dumps
from openrouter_sim.calls.call import DONE, SimCall, SimRequest, SimShape, event
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.prompt import SimPrompt, bound_of, request_of

NATIVE_FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class SimChat(SimShape):
    """Chat completions."""

    api = "chat"

    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise bad_request("Input required: specify messages")
        prompt = SimPrompt(scenario, family)
        prompt.add_tools(body.get("tools"))
        prompt.add_object(body.get("response_format"))
        last_text, last_role = "", "user"
        for message in messages:
            text, role = _add(prompt, message)
            if role in {"user", "tool"}:
                last_text, last_role = text, role
        return request_of(body, prompt, (last_text, last_role), scenario, "max_tokens", "max_completion_tokens")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the completion."""
        reply = call.reply
        message: JsonObject = {
            "role": "assistant",
            "content": reply.text or None,
            "refusal": None,
            "reasoning": "Thinking." if reply.reasoning else None,
        }
        if reply.tool_calls:
            message["tool_calls"] = [_tool_call(call, index) for index in range(len(reply.tool_calls))]
        choice = {**_finish(call), "index": 0, "logprobs": None, "message": message}
        return call.with_usage({**_head(call, "chat.completion"), "choices": [choice]}, _usage(call))

    def stream(self, call: SimCall) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the deltas; then the finish, the usage and `[DONE]`."""
        deltas = [event(_chunk(call, delta)) for delta in _deltas(call)]
        last = _chunk(call, {"role": "assistant", "content": ""}, _finish(call))
        final = {**last, "choices": []} if call.scenario.usage_chunk == "empty" else last
        finish = [] if call.scenario.usage_chunk == "merged" else [event(last)]
        return [], deltas, [*finish, event(call.with_usage(final, _usage(call))), DONE]

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a chunk."""
        return event(_chunk(call, {"role": "assistant", "content": text}))

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the last chunk, in the form that the error states."""
        native = "MALFORMED_FUNCTION_CALL" if error.choice_only else "error"
        return _error_event(
            error, _chunk(call, {"content": ""}, {"finish_reason": "error", "native_finish_reason": native})
        )


class SimCompletions(SimShape):
    """Text completions."""

    api = "completions"

    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request."""
        texts = body.get("prompt")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise bad_request("prompt: expected a string")
        prompt = SimPrompt(scenario, family)
        for text in texts:
            prompt.add(text)
        bound = bound_of(body, scenario, "max_tokens", "max_completion_tokens")
        return SimRequest(body, body.get("stream") is True, bound, prompt.segments, texts[-1], "user")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the completion."""
        return call.with_usage(_text_body(call, call.reply.text, call.reply.finish), _usage(call))

    def stream(self, call: SimCall) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the pieces; then the finish, the usage and `[DONE]`."""
        last = _text_body(call, "", call.reply.finish)
        pieces = [self.delta(call, piece) for piece in call.reply.pieces]
        return [], pieces, [event(last), event(call.with_usage(last, _usage(call))), DONE]

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a chunk."""
        return event(_text_body(call, text, None))

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the last chunk."""
        return _error_event(error, _text_body(call, "", "error"))


def _add(prompt: SimPrompt, message: object) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request("messages: expected objects with a role")
    role = message["role"]
    text = prompt.add_message(role, message.get("content"))
    for name in ("tool_calls", "reasoning", "reasoning_details"):
        if message.get(name):
            prompt.add(dumps(message[name]))
    return text, role


def _usage(call: SimCall) -> JsonObject:
    tokens = call.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached,
            "cache_write_tokens": tokens.written,
            "audio_tokens": 0,
            "video_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "image_tokens": 0, "audio_tokens": 0},
        **call.cost_fields("upstream_inference_prompt_cost", "upstream_inference_completions_cost"),
        "sim_unknown": {"cost": 999},
    }


def _error_event(error: StreamError, chunk: JsonObject) -> bytes:
    """Return the event that ends a stream of chat or text completions with an error.

    Args:
        error: What is stated, and in which form.
        chunk: The last chunk, whose finish reason is `error`.
    """
    stated = {"code": error.code, "message": error.message, "metadata": {"error_type": error.error_type}}
    if error.bare:
        return event({"error": stated})
    return event(chunk if error.choice_only else {**chunk, "error": stated})


def _head(call: SimCall, kind: str) -> JsonObject:
    return {
        "id": call.shown_id,
        "object": kind,
        "created": int(call.created_s),
        "model": call.model.id,
        "provider": call.endpoint.provider,
        "system_fingerprint": None,
        "service_tier": call.service_tier,
        "sim_extra": True,
    }


def _chunk(call: SimCall, delta: JsonObject, finish: JsonObject | None = None) -> JsonObject:
    finish = finish or {"finish_reason": None, "native_finish_reason": None}
    choice = {"index": 0, "delta": delta, "logprobs": None, **finish}
    return {**_head(call, "chat.completion.chunk"), "choices": [choice]}


def _finish(call: SimCall) -> JsonObject:
    reason = call.reply.finish
    return {"finish_reason": reason, "native_finish_reason": NATIVE_FINISH.get(reason, reason)}


def _deltas(call: SimCall) -> Iterator[dict[str, Any]]:
    reply = call.reply
    if reply.reasoning:
        yield {"role": "assistant", "content": "", "reasoning": "Thinking."}
    for piece in reply.pieces:
        yield {"role": "assistant", "content": piece}
    for index in range(len(reply.tool_calls)):
        first = {**_tool_call(call, index), "index": index}
        arguments = first["function"]["arguments"]
        first["function"] = {"name": first["function"]["name"], "arguments": ""}
        yield {"role": "assistant", "content": None, "tool_calls": [first]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def _tool_call(call: SimCall, index: int) -> dict[str, Any]:
    tool_call = call.reply.tool_calls[index]
    function = {"name": tool_call.name, "arguments": tool_call.arguments}
    return {"id": f"call_{call.id[-20:]}_{index}", "type": "function", "function": function}


def _text_body(call: SimCall, text: str, finish: str | None) -> JsonObject:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "native_finish_reason": finish}
    return {
        "id": call.shown_id,
        "object": "text_completion",
        "created": int(call.created_s),
        "model": call.model.id,
        "provider": call.endpoint.provider,
        "choices": [choice],
    }
