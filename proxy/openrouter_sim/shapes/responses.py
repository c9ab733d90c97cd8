"""`/responses`, without state on the server.

Source: openrouter.ai/docs/api_reference/responses, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator

from openrouter_sim.base.errors import StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import DONE, SimCall, SimRequest, SimShape, event
from openrouter_sim.calls.scenario import Scenario, ToolCall
from openrouter_sim.shapes.prompt import SimPrompt, request_of

_ECHOED = (
    *("instructions", "max_output_tokens", "metadata", "tool_choice", "tools", "temperature", "top_p", "reasoning"),
    *("frequency_penalty", "presence_penalty"),
)
"""Null where the request has none; most of them a response must have.

Source: openrouter.ai/openapi.yaml, 2026-10, `OpenResponsesResult`.
"""


class SimResponses(SimShape):
    """The Responses API."""

    api = "responses"

    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request. Fields that need state on the server are refused."""
        if body.get("store") is True or body.get("previous_response_id") is not None:
            raise bad_request("store and previous_response_id are not supported: the API is stateless")
        prompt = SimPrompt(scenario, family)
        prompt.add_tools(body.get("tools"))
        if isinstance(body.get("instructions"), str):
            prompt.add_message("system", body["instructions"])
        prompt.add_object(body.get("text"))
        return request_of(body, prompt, _add_input(prompt, body.get("input")), scenario, "max_output_tokens")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the response object."""
        output = [_item(call, index, part) for index, part in enumerate(call.reply.parts)]
        return call.with_usage(_response(call, _status(call), output), _usage(call))

    def stream(self, call: SimCall) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the events, numbered, and `[DONE]`."""
        first = [{"type": f"response.{name}", "response": _open(call)} for name in ("created", "in_progress")]
        middle = [data for index, part in enumerate(call.reply.parts) for data in _item_events(call, index, part)]
        last = {"type": f"response.{_status(call)}", "response": self.whole(call)}
        events = [self._event(call, number, data) for number, data in enumerate([*first, *middle, last])]
        return events[:2], events[2:-1], [events[-1], DONE]

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a text delta of the first item."""
        data = {"type": "response.output_text.delta", "item_id": "msg_0", "output_index": 0, "content_index": 0}
        return self._event(call, 0, {**data, "delta": text})

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return one of the three forms in which a stream fails."""
        data: JsonObject = {"error": {"code": str(error.code), "message": error.message}}
        kind = "error" if error.bare else "response.error"
        if not error.bare and not error.choice_only:
            kind, data = "response.failed", {"response": {**_open(call), "status": "failed", **data}}
        return self._event(call, 99, {"type": kind, **data, "error_type": error.error_type})

    def _event(self, call: SimCall, number: int, data: JsonObject) -> bytes:
        name = str(data["type"]) if call.scenario.responses_events else None
        return event({**data, "sequence_number": number}, name)


def _add_input(prompt: SimPrompt, content: object) -> tuple[str, str]:
    if isinstance(content, str):
        return prompt.add_message("user", content), "user"
    if not isinstance(content, list) or not content:
        raise bad_request("input: expected a string or a list that is not empty")
    last_text, last_role = "", "user"
    for entry in content:
        if not isinstance(entry, dict):
            raise bad_request("input: expected objects")
        if entry.get("type", "message") == "message":
            text, role = prompt.add_message(str(entry.get("role")), entry.get("content")), entry.get("role")
        else:
            role = "tool" if str(entry["type"]).endswith("_output") else "assistant"
            text = prompt.add_message(role, [entry])
        if role in {"user", "tool"}:
            last_text, last_role = text, str(role)
    return last_text, last_role


def _status(call: SimCall) -> str:
    return "incomplete" if call.reply.finish == "length" else "completed"


def _open(call: SimCall) -> JsonObject:
    return {**_response(call, "in_progress", []), "usage": None}


def _response(call: SimCall, status: str, output: list[JsonObject]) -> JsonObject:
    echoed = {name: call.request.body.get(name) for name in _ECHOED}
    return {
        "id": call.shown_id,
        "object": "response",
        "created_at": int(call.created_s),
        "completed_at": int(call.created_s) if status == "completed" else None,
        "model": call.model.id,
        "provider": call.endpoint.provider,
        **echoed,
        "tools": echoed["tools"] or [],
        "tool_choice": echoed["tool_choice"] or "auto",
        "parallel_tool_calls": True,
        "service_tier": call.service_tier or "default",
        "store": False,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output,
    }


def _usage(call: SimCall) -> JsonObject:
    """Return the usage object; `input_tokens` includes cache reads and writes."""
    tokens = call.tokens
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.completion,
        **call.cost_fields("upstream_inference_input_cost", "upstream_inference_output_cost"),
    }


def _item(call: SimCall, index: int, part: ToolCall | str) -> JsonObject:
    """Return one finished output item."""
    tail = f"{call.id[-20:]}_{index}"
    if isinstance(part, ToolCall):
        return {
            "type": "function_call",
            "id": f"fc_{tail}",
            "call_id": f"call_{tail}",
            "name": part.name,
            "arguments": part.arguments,
            "status": "completed",
        }
    if part == "reasoning":
        summary = [{"type": "summary_text", "text": "Thinking."}]
        return {"type": "reasoning", "id": f"rs_{tail}", "summary": summary, "encrypted_content": None}
    return {
        "type": "message",
        "id": f"msg_{tail}",
        "role": "assistant",
        "status": "completed",
        "content": [_text(call.reply.text)],
    }


def _item_events(call: SimCall, index: int, part: ToolCall | str) -> Iterator[JsonObject]:
    """Yield the events of one item."""
    done = _item(call, index, part)
    at = {"item_id": done["id"], "output_index": index}
    added = {"type": "response.output_item.added", "output_index": index}
    if isinstance(part, ToolCall):
        yield {**added, "item": {**done, "status": "in_progress", "arguments": ""}}
        yield {"type": "response.function_call_arguments.delta", **at, "delta": part.arguments}
        yield {"type": "response.function_call_arguments.done", **at, "arguments": part.arguments, "name": part.name}
    elif part == "reasoning":
        yield {**added, "item": {**done, "summary": []}}
    else:
        yield {**added, "item": {**done, "status": "in_progress", "content": []}}
        yield from _text_events(call, at)
    yield {"type": "response.output_item.done", "output_index": index, "item": done}


def _text_events(call: SimCall, at: JsonObject) -> Iterator[JsonObject]:
    at = {**at, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": _text("")}
    for piece in call.reply.pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": call.reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": _text(call.reply.text)}


def _text(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
