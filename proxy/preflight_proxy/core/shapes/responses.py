"""The shape of `/responses`, which OpenRouter serves without state.

Source: openrouter.ai/docs/api_reference/responses, 2026-10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import structs

from preflight_proxy.core.shapes.answers import (
    DONE,
    InputUsage,
    JsonObject,
    created,
    read_identity,
    read_object,
    read_usage,
)
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope_body
from preflight_proxy.core.shapes.fields import absent
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS, ParsedRequest
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Reading
from preflight_proxy.core.shapes.tools import Api
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
TOOLS: Mapping[str, Api] = {"tools": "responses"}

_TERMINAL = {
    "response.completed": "stop",
    "response.incomplete": "length",
    "response.failed": "error",
    "response.error": "error",
    "error": "error",
}
_CALLS = frozenset({"function_call", "custom_tool_call"})
_FINISH = {"completed": "stop", "failed": "error", "max_output_tokens": "length", "content_filter": "content_filter"}


class Responses(Shape):
    """OpenAI's responses as OpenRouter serves them."""

    name = "responses"
    path = "/responses"
    bound_fields = ("max_output_tokens",)
    fields = FIELDS
    prompt_field = "input"
    rules = RULES
    roles = ROLES
    formats = FORMAT_FIELDS
    tools = TOOLS
    takes_text = True

    def system(self, parsed: ParsedRequest, text: PromptText) -> None:
        """See `Shape.system`."""
        text.part(parsed.decoded("instructions"))

    def shrinks(self, parsed: ParsedRequest) -> bool:
        """See `Shape.shrinks`."""
        return parsed.decoded("truncation") not in (None, "disabled")

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        response = read_object(body.strip())
        return structs.replace(_read(response), terminal=True, tool_names=_tool_names(response.children("output")))

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`."""
        if event.data.strip() == DONE:
            return Reading(terminal=True)
        data = read_object(event.data)
        kind = data.text("type") or ""
        if kind == "response.output_item.added":
            return Reading(tool_names=_tool_names([data.child("item")]))
        if kind not in _TERMINAL and "response" not in data:
            return Reading(error=data.has("error"))
        read = _read(data.child("response"))
        if kind not in _TERMINAL:
            return structs.replace(read, usage=None, finish=None)
        finish = read.finish or _TERMINAL[kind]
        return structs.replace(
            read, finish=finish, error=read.error or finish == "error" or data.has("error"), terminal=True
        )

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


def _read(response: JsonObject) -> Reading:
    """What a response object says, at whatever stage. Its `input_tokens` include cached and written ones.

    Source: a capture of 2026-09 whose cost adds up only so.
    """
    reason = response.child("incomplete_details").text("reason")
    return structs.replace(
        read_identity(response),
        usage=read_usage(response.part("usage", InputUsage)),
        finish=_FINISH.get(reason or "") or _FINISH.get(response.text("status") or ""),
        error=response.has("error"),
    )


def _tool_names(output: Iterable[JsonObject]) -> tuple[str, ...]:
    return tuple(name for item in output if item.text("type") in _CALLS and (name := item.text("name")))


_RETRIED = frozenset({"provider_unavailable", "server"})


def _failed_response(head: Reading, message: str, error_type: str) -> dict[str, object]:
    """A response with all that the API requires of one.

    Source: openrouter.ai/openapi.yaml, 2026-10, `OpenResponsesResult`.
    """
    return {
        "id": head.generation_id or "",
        "object": "response",
        "created_at": created(head.generation_id),
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
