"""`/responses`, stateless.

Source: openrouter.ai/docs/api_reference/responses, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator

from openrouter_sim.base.errors import ApiError, StreamError, bad_request, envelope
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest
from openrouter_sim.calls.events import DONE, event, spread
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.prompt import SimPrompt, bound_of, mark_of
from openrouter_sim.shapes.response_items import item, item_events, items_of, usage_of

_ECHOED = (
    *("instructions", "max_output_tokens", "metadata", "tool_choice", "tools", "temperature", "top_p", "reasoning"),
    *("frequency_penalty", "presence_penalty"),
)
"""Null where the request has none; most of them a response must have.

Source: openrouter.ai/openapi.yaml, 2026-10, `OpenResponsesResult`.
"""


class SimResponses:
    """The Responses API."""

    api = "responses"

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request, read; state on the server is refused."""
        if body.get("store") is True or body.get("previous_response_id") is not None:
            raise bad_request("store and previous_response_id are not supported: the API is stateless")
        prompt = SimPrompt(scenario)
        prompt.add_tools(body.get("tools"), tokenizer)
        if isinstance(body.get("instructions"), str):
            prompt.add_message("system", body["instructions"])
        prompt.add_object(body.get("text"))
        last_text, last_role = _add_input(prompt, body.get("input"))
        prompt.mark_last(mark_of(body))
        bound = bound_of(body, scenario, "max_output_tokens")
        return SimRequest(body, body.get("stream") is True, bound, prompt.segments, last_text, last_role)

    def whole(self, call: SimCall) -> JsonObject:
        """Return the response object."""
        return _response(call, _status(call), [item(call, i) for i in range(len(items_of(call)))])

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the events, numbered, and `[DONE]`."""
        total, number = call.tokens.completion, 2
        yield Frame(self._event(call, 0, {"type": "response.created", "response": _open(call)}))
        yield Frame(self._event(call, 1, {"type": "response.in_progress", "response": _open(call)}))
        middle = [data for index in range(len(items_of(call))) for data in item_events(call, index)]
        for data, tokens in zip(middle, spread(len(middle), total), strict=True):
            yield Frame(self._event(call, number, data), tokens)
            number += 1
        last = {"type": f"response.{_status(call)}", "response": self.whole(call)}
        yield Frame(self._event(call, number, last), total, settles=True)
        yield Frame(DONE, total)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a text delta of the first item."""
        data = {"type": "response.output_text.delta", "item_id": "msg_0", "output_index": 0, "content_index": 0}
        return self._event(call, 0, {**data, "delta": text})

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return the envelope."""
        return envelope(error)

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return one of the three forms in which a stream fails."""
        told = {"code": str(error.code), "message": error.message}
        if error.bare:
            return self._event(call, 99, {"type": "error", "error": told, "error_type": error.error_type})
        if error.choice_only:
            return self._event(call, 99, {"type": "response.error", "error": told, "error_type": error.error_type})
        failed = {**_open(call), "status": "failed", "error": told}
        return self._event(call, 99, {"type": "response.failed", "response": failed, "error_type": error.error_type})

    def _event(self, call: SimCall, number: int, data: JsonObject) -> bytes:
        name = str(data["type"]) if call.scenario.responses_events else None
        return event({**data, "sequence_number": number}, name)


RESPONSES = SimResponses()


def _add_input(prompt: SimPrompt, given: object) -> tuple[str, str]:
    if isinstance(given, str):
        return prompt.add_message("user", given), "user"
    if not isinstance(given, list) or not given:
        raise bad_request("input: expected a string or a list that is not empty")
    last_text, last_role = "", "user"
    for entry in given:
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
    echoed = {name: call.ask.body.get(name) for name in _ECHOED}
    body: JsonObject = {
        "id": call.shown_id,
        "object": "response",
        "created_at": int(call.created_s),
        "completed_at": int(call.created_s) if status == "completed" else None,
        "model": call.model_id,
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
    usage = None if status == "in_progress" else call.usage(usage_of(call))
    return body if usage is None else {**body, "usage": usage}
