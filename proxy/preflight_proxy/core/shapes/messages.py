"""The shape of `/messages`: Anthropic's API as OpenRouter serves it.

Source: openrouter.ai/docs/api_reference and docs.anthropic.com/en/api/messages, 2026-10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from preflight_proxy.core.shapes.answers import (
    DONE,
    Count,
    InputUsage,
    JsonObject,
    read_identity,
    read_object,
    read_usage,
)
from preflight_proxy.core.shapes.body import Json
from preflight_proxy.core.shapes.error_body import anthropic_body
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS, ParsedRequest
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.shapes.tools import Api
from preflight_proxy.core.sse import Event

FIELDS = COMMON_FIELDS | frozenset(
    {"messages", "system", "max_tokens", "stop_sequences", "thinking", "context_management", "output_config"}
    | {"output_format", "speed", "inference_geo"}
)
ROLES = frozenset({"system", "user", "assistant"})
FORMAT_FIELDS = ("output_config", "output_format", "tool_choice")
TOOLS: Mapping[str, Api] = {"tools": "messages"}

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class MessageUsage(InputUsage, gc=False):
    """Counts what was cached or written beside the prompt."""

    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


class Messages(Shape):
    """Anthropic's messages as OpenRouter serves them."""

    name = "messages"
    path = "/messages"
    bound_fields = ("max_tokens",)
    fields = FIELDS
    prompt_field = "messages"
    roles = ROLES
    formats = FORMAT_FIELDS
    tools = TOOLS

    def system(self, parsed: ParsedRequest, text: PromptText) -> None:
        """See `Shape.system`."""
        text.part(parsed.decoded("system"))

    def shrinks(self, parsed: ParsedRequest) -> bool:
        """See `Shape.shrinks`. Unless nothing is cleared: clearing thinking and keeping all of it is no clearing."""
        context_management = parsed.decoded("context_management")
        edits = context_management.get("edits") if isinstance(context_management, dict) else None
        return isinstance(edits, list) and any(edit != _KEEPS_ALL for edit in edits)

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        message = read_object(body.strip())
        return replace(
            read_identity(message),
            usage=_usage(message),
            finish=_finish(message),
            error=message.has("error"),
            terminal=True,
            tool_names=_tool_names(message.children("content")),
        )

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`.

        The usage of `message_start` is a forecast without cost, so it is not read; that of `message_delta` is cumulative.
        """
        if event.data.strip() == DONE:
            return Reading(terminal=True)
        data = read_object(event.data)
        match data.text("type"):
            case "message_start":
                return read_identity(data.child("message"))
            case "content_block_start":
                return Reading(tool_names=_tool_names([data.child("content_block")]))
            case "message_delta":
                return Reading(usage=_usage(data), finish=_finish(data.child("delta")))
            case "message_stop":
                return Reading(terminal=True)
            case "error":
                return Reading(error=True, terminal=True)
        return Reading(error=data.has("error"))

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return anthropic_body(message, error_type)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`. The event's name is needed: without it Anthropic's own client takes half a text for success."""
        return b"event: error\ndata: " + anthropic_body(message, error_type) + b"\n\n"


_KEEPS_ALL: Json = {"type": "clear_thinking_20251015", "keep": "all"}


def _finish(message: JsonObject) -> str | None:
    reason = message.text("stop_reason")
    return _FINISH.get(reason, reason) if reason else None


def _usage(message: JsonObject) -> CallUsage | None:
    """Usage of a message: `input_tokens` excludes what was cached or written, so these are added.

    In captured streams of 2026-09 it includes them; `billed_reading` tells by the cost which of the two it is.
    """
    counts = message.part("usage", MessageUsage)
    usage = read_usage(counts)
    if counts is None or usage is None:
        return None
    cached, written = counts.cache_read_input_tokens or 0, counts.cache_creation_input_tokens or 0
    input_tokens, details = usage.prompt_tokens, counts.completion_tokens_details
    return replace(
        usage,
        prompt_tokens=input_tokens + cached + written,
        prompt_tokens_less=input_tokens if 0 < cached + written <= input_tokens else None,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=(details and details.thinking_tokens) or 0,
    )


def _tool_names(blocks: Iterable[JsonObject]) -> tuple[str, ...]:
    return tuple(name for block in blocks if block.text("type") == "tool_use" and (name := block.text("name")))
