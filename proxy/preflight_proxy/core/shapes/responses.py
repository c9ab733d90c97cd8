"""The shape of `/responses`, which OpenRouter serves without state.

Source: openrouter.ai/docs/api_reference/responses, 2026-10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import msgspec

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes import usage_reading
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.chunks import DONE
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope_body
from preflight_proxy.core.shapes.fields import absent
from preflight_proxy.core.shapes.parsed_request import (
    COMMON_FIELDS,
    ParsedRequest,
    bound_slices,
    build_request,
    parse_request,
    write,
)
from preflight_proxy.core.shapes.prompt import build_prompt
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import CallUsage, Message, Reading, Request, UnknownFields
from preflight_proxy.core.shapes.thinking import reasoning_bound, reasoning_slices
from preflight_proxy.core.shapes.tools import kept_tools, read_tools
from preflight_proxy.core.sse import Event

FIELDS = COMMON_FIELDS | frozenset(
    {"input", "instructions", "max_output_tokens", "reasoning", "text", "parallel_tool_calls", "include", "store"}
    | {"truncation", "top_logprobs", "stream_options", "prompt_cache_key", "prompt_cache_options", "verbosity"}
    | {"prompt_cache_retention", "safety_identifier", "max_tool_calls", "previous_response_id", "background"}
    | {"presence_penalty", "frequency_penalty", "modalities"}
)
RULES = {
    "store": absent("a stored answer would be a prompt that later requests do not show"),
    "prompt": absent("a stored prompt is none that the request shows"),
}
ROLES = frozenset({"system", "developer", "user", "assistant"})
FORMAT_FIELDS = ("text", "tool_choice")

_TERMINAL = {
    "response.completed": "stop",
    "response.incomplete": "length",
    "response.failed": "error",
    "response.error": "error",
    "error": "error",
}
_CALLS = frozenset({"function_call", "custom_tool_call"})
_FINISH = {"completed": "stop", "failed": "error", "max_output_tokens": "length", "content_filter": "content_filter"}


class Responses:
    """OpenAI's responses as OpenRouter serves them."""

    name = "responses"
    path = "/responses"
    bound_fields = ("max_output_tokens",)

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        opened = parse_request(body, headers, unknown_fields, known=FIELDS, rules=RULES)
        text = PromptText()
        messages = _items(opened, text)
        text.part(opened.decoded("instructions"))
        tools = read_tools(opened.raw.get("tools"), text, "responses")
        if tools.kept is not None:
            opened.raw["tools"] = kept_tools(opened.raw["tools"], tools.kept)
        shrinks = opened.decoded("truncation") not in (None, "disabled")
        prompt = build_prompt(opened, text, messages=messages, tools=tools, formats=FORMAT_FIELDS, shrinks=shrinks)
        request = build_request(opened, self.name, prompt, self.bound_fields, reasoning_bound(opened))
        return replace(request, dropped=(*request.dropped, *tools.dropped))

    def emit(
        self, request: Request, *, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
    ) -> bytes:
        """See `Shape.emit`."""
        return write(request, {**bound_slices(request, bound), **reasoning_slices(request, bound)}, only, max_price)

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        response = usage_reading.slices(body.strip())
        calls = [usage_reading.slices(item) for item in usage_reading.items(response.get("output"))]
        names = usage_reading.names(name for call in calls for name in _call_names(call))
        return replace(_read(response), terminal=True, tool_names=names)

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`."""
        if event.data.strip() == DONE:
            return Reading(terminal=True)
        told = usage_reading.slices(event.data)
        kind = usage_reading.text(told.get("type")) or ""
        if kind == "response.output_item.added":
            return Reading(tool_names=usage_reading.names(_call_names(usage_reading.slices(told.get("item")))))
        if kind not in _TERMINAL and "response" not in told:
            return Reading(error=usage_reading.present(told.get("error")))
        read = _read(usage_reading.slices(told.get("response")))
        if kind not in _TERMINAL:
            return replace(read, usage=None, finish=None)
        finish = read.finish or _TERMINAL[kind]
        failed = read.error or finish == "error" or usage_reading.present(told.get("error"))
        return replace(read, finish=finish, error=failed, terminal=True)

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return envelope_body(status, message, error_type)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`.

        The error at the top makes OpenAI's own clients raise. In the response the code `server_error` makes codex and pi ask
        again; `invalid_prompt` is the one that makes codex stop and show the text.
        """
        failed = {
            "type": "response.failed",
            "sequence_number": sequence_number,
            "error": {"code": STATUS_BY_ERROR_TYPE.get(error_type, 500), "message": message},
            "response": _failed_response(head, message, error_type),
        }
        return b"event: response.failed\ndata: " + msgspec.json.encode(failed) + b"\n\ndata: [DONE]\n\n"


def _items(opened: ParsedRequest, text: PromptText) -> tuple[Message, ...]:
    raw = opened.raw.get("input")
    if raw is None:
        raise BadRequest("The field 'input' is missing.")
    if raw.startswith(b"["):
        return tuple(text.message(item, ROLES) for item in bodies.elements(raw))
    return (text.message(raw, ROLES),)


def _read(response: usage_reading.Slices) -> Reading:
    """What a response object says, at whatever stage."""
    status = usage_reading.text(response.get("status"))
    reason = usage_reading.text(usage_reading.slices(response.get("incomplete_details")).get("reason"))
    return Reading(
        generation_id=usage_reading.text(response.get("id")),
        model=usage_reading.text(response.get("model")),
        provider=usage_reading.text(response.get("provider")),
        usage=_usage(response.get("usage")),
        finish=_FINISH.get(reason or "") or _FINISH.get(status or ""),
        error=usage_reading.present(response.get("error")),
    )


def _usage(raw: bytes | None) -> CallUsage | None:
    """Usage of a response: `input_tokens` includes cached and written ones here.

    Source: a capture of 2026-09 whose cost adds up only so.
    """
    if not usage_reading.present(raw):
        return None
    usage = usage_reading.slices(raw)
    details, output = (
        usage_reading.slices(usage.get("input_tokens_details")),
        usage_reading.slices(usage.get("output_tokens_details")),
    )
    return CallUsage(
        cost_pusd=usage_reading.cost(usage),
        prompt_tokens=usage_reading.count(usage.get("input_tokens")),
        cached_tokens=usage_reading.count(details.get("cached_tokens")),
        cache_write_tokens=usage_reading.count(details.get("cache_write_tokens")),
        completion_tokens=usage_reading.count(usage.get("output_tokens")),
        reasoning_tokens=usage_reading.count(output.get("reasoning_tokens")),
        is_byok=usage.get("is_byok") == b"true",
    )


def _call_names(item: usage_reading.Slices) -> Iterator[str | None]:
    if usage_reading.text(item.get("type")) in _CALLS:
        yield usage_reading.text(item.get("name"))


_RETRIED = frozenset({"provider_unavailable", "server"})


def _failed_response(head: Reading, message: str, error_type: str) -> dict[str, object]:
    """A response with all that the API requires of one.

    Source: openrouter.ai/openapi.yaml, 2026-10, `OpenResponsesResult`.
    """
    return {
        "id": head.generation_id or "",
        "object": "response",
        "created_at": usage_reading.created(head.generation_id),
        "status": "failed",
        "model": head.model or "",
        "completed_at": None,
        "error": {"code": "server_error" if error_type in _RETRIED else "invalid_prompt", "message": message},
        "frequency_penalty": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [],
        "parallel_tool_calls": True,
        "presence_penalty": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
