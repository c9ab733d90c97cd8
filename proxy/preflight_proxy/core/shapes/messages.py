"""The shape of `/messages`: Anthropic's API as OpenRouter serves it.

Source: openrouter.ai/docs/api_reference and docs.anthropic.com/en/api/messages, 2026-10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes import usage_reading
from preflight_proxy.core.shapes.body import BadRequest, Json
from preflight_proxy.core.shapes.chunks import DONE
from preflight_proxy.core.shapes.error_body import anthropic_body
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS, bound_slices, build_request, parse_request, write
from preflight_proxy.core.shapes.prompt import build_prompt
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import CallUsage, Reading, Request, UnknownFields
from preflight_proxy.core.shapes.thinking import reasoning_bound, reasoning_slices
from preflight_proxy.core.shapes.tools import read_tools
from preflight_proxy.core.sse import Event

FIELDS = COMMON_FIELDS | frozenset(
    {"messages", "system", "max_tokens", "stop_sequences", "thinking", "context_management", "output_config"}
    | {"output_format", "speed", "inference_geo"}
)
ROLES = frozenset({"system", "user", "assistant"})
FORMAT_FIELDS = ("output_config", "output_format", "tool_choice")

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Messages:
    """Anthropic's messages as OpenRouter serves them."""

    name = "messages"
    path = "/messages"
    bound_fields = ("max_tokens",)

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        opened = parse_request(body, headers, unknown_fields, known=FIELDS)
        if "messages" not in opened.raw:
            raise BadRequest("The field 'messages' is missing.")
        text = PromptText()
        messages = tuple(text.message(raw, ROLES) for raw in bodies.elements(opened.raw["messages"]))
        text.part(opened.decoded("system"))
        tools = read_tools(opened.raw.get("tools"), text, "messages")
        shrinks = _shrinks(opened.decoded("context_management"))
        prompt = build_prompt(opened, text, messages=messages, tools=tools, formats=FORMAT_FIELDS, shrinks=shrinks)
        return build_request(opened, self.name, prompt, self.bound_fields, reasoning_bound(opened))

    def emit(
        self, request: Request, *, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
    ) -> bytes:
        """See `Shape.emit`."""
        return write(request, {**bound_slices(request, bound), **reasoning_slices(request, bound)}, only, max_price)

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        message = usage_reading.slices(body.strip())
        return Reading(
            generation_id=usage_reading.text(message.get("id")),
            model=usage_reading.text(message.get("model")),
            provider=usage_reading.text(message.get("provider")),
            usage=_usage(message.get("usage")),
            finish=_finish(message.get("stop_reason")),
            error=usage_reading.present(message.get("error")),
            terminal=True,
            tool_names=usage_reading.names(
                name for raw in usage_reading.items(message.get("content")) for name in _tool_name(raw)
            ),
        )

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`.

        The usage of `message_start` is a forecast without cost, so it is none; that of `message_delta` is cumulative.
        """
        if event.data.strip() == DONE:
            return Reading(terminal=True)
        told = usage_reading.slices(event.data)
        match usage_reading.text(told.get("type")):
            case "message_start":
                return _start(usage_reading.slices(told.get("message")))
            case "content_block_start":
                return Reading(tool_names=usage_reading.names(_tool_name(told.get("content_block"))))
            case "message_delta":
                finish = _finish(usage_reading.slices(told.get("delta")).get("stop_reason"))
                return Reading(usage=_usage(told.get("usage")), finish=finish)
            case "message_stop":
                return Reading(terminal=True)
            case "error":
                return Reading(error=True, terminal=True)
        return Reading(error=usage_reading.present(told.get("error")))

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return anthropic_body(message, error_type)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`. The event's name is needed: without it Anthropic's own client takes half a text for success."""
        return b"event: error\ndata: " + anthropic_body(message, error_type) + b"\n\n"


def _shrinks(context_management: Json) -> bool:
    """True unless nothing is cleared: clearing thinking and keeping all of it is no clearing."""
    edits = context_management.get("edits") if isinstance(context_management, dict) else None
    clearing = [edit for edit in edits if edit != _KEEPS_ALL] if isinstance(edits, list) else []
    return bool(clearing)


_KEEPS_ALL: Json = {"type": "clear_thinking_20251015", "keep": "all"}


def _start(message: usage_reading.Slices) -> Reading:
    return Reading(
        generation_id=usage_reading.text(message.get("id")),
        model=usage_reading.text(message.get("model")),
        provider=usage_reading.text(message.get("provider")),
    )


def _finish(raw: bytes | None) -> str | None:
    reason = usage_reading.text(raw)
    return _FINISH.get(reason, reason) if reason else None


def _usage(raw: bytes | None) -> CallUsage | None:
    """Usage of a message: `input_tokens` excludes what was cached or written, so these are added.

    In captured streams of 2026-09 it includes them; `billed_reading` tells by the cost which of the two it is.
    """
    if not usage_reading.present(raw):
        return None
    usage = usage_reading.slices(raw)
    cached = usage_reading.count(usage.get("cache_read_input_tokens"))
    written = usage_reading.count(usage.get("cache_creation_input_tokens"))
    told = usage_reading.count(usage.get("input_tokens"))
    return CallUsage(
        cost_pusd=usage_reading.cost(usage),
        prompt_tokens=told + cached + written,
        prompt_tokens_less=told if 0 < cached + written <= told else None,
        cached_tokens=cached,
        cache_write_tokens=written,
        completion_tokens=usage_reading.count(usage.get("output_tokens")),
        reasoning_tokens=usage_reading.count(
            usage_reading.slices(usage.get("output_tokens_details")).get("thinking_tokens")
        ),
        is_byok=usage.get("is_byok") == b"true",
    )


def _tool_name(raw: bytes | None) -> Iterator[str | None]:
    block = usage_reading.slices(raw)
    if usage_reading.text(block.get("type")) == "tool_use":
        yield usage_reading.text(block.get("name"))
