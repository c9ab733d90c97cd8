"""The shape of `/chat/completions`.

Source: openrouter.ai/docs/api_reference/overview and /streaming, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from preflight_proxy.core import body as bodies
from preflight_proxy.core.body import BadRequest
from preflight_proxy.core.error_body import STATUS_BY_ERROR_TYPE, envelope, envelope_body
from preflight_proxy.core.json_size import indented_bytes
from preflight_proxy.core.shapes import reading
from preflight_proxy.core.shapes.fields import whole_value
from preflight_proxy.core.shapes.opened import (
    COMMON_FIELDS,
    Opened,
    bound_slices,
    close_request,
    open_request,
    prompt_digest,
    write,
)
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Message, Prompt, Reading, Request, UnknownFields
from preflight_proxy.core.shapes.thinking import lower_reasoning
from preflight_proxy.core.shapes.tools import Tools, read_tools
from preflight_proxy.core.sse import Event

FIELDS = COMMON_FIELDS | frozenset(
    [
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "min_p",
        "top_a",
        "seed",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "response_format",
        "structured_outputs",
        "reasoning",
        "reasoning_effort",
        "include_reasoning",
        "verbosity",
        "stream_options",
        "usage",
        "store",
        "n",
        "modalities",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "debug",
    ]
)
FORMAT_FIELDS = ("response_format", "tool_choice", "function_call")
"""Objects beside the tools that a template writes into the prompt."""


class Chat:
    """OpenAI's chat completions as OpenRouter serves them."""

    name = "chat"
    path = "/chat/completions"
    bound_fields = ("max_completion_tokens", "max_tokens")

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        opened = open_request(body, headers, unknown_fields, known=FIELDS)
        if "messages" not in opened.raw:
            raise BadRequest("The field 'messages' is missing.")
        text = PromptText()
        messages = tuple(text.message(raw) for raw in bodies.elements(opened.raw["messages"]))
        text.cache(opened.decoded("cache_control"))
        tools = _all_tools(opened, text)
        prompt = build_prompt(opened, text, messages, tools, FORMAT_FIELDS)
        return close_request(opened, self.name, prompt, self.bound_fields, _reasoning_bound(opened))

    def emit(
        self, request: Request, *, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
    ) -> bytes:
        """See `Shape.emit`."""
        changed = bound_slices(request, self.bound_fields, bound)
        return write(request, {**changed, **lowered_reasoning(request, bound)}, only, max_price)

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        return _read(reading.slices(body.strip()), "message", terminal=True)

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`."""
        if event.data.strip() == b"[DONE]":
            return Reading(terminal=True)
        return _read(reading.slices(event.data), "delta", terminal=False)

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return envelope_body(status, message, error_type)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, **_ERROR_FINISH}
        chunk = {**chunk_head(head, "chat.completion.chunk", message, error_type), "choices": [choice]}
        return b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n"


_ERROR_FINISH = {"finish_reason": "error", "native_finish_reason": "error"}


def chunk_head(head: Reading, kind: str, message: str, error_type: str) -> dict[str, object]:
    """The fields of an error chunk, `choices` excepted: the running stream's identity, then the error."""
    told = {"model": head.model or "", "provider": head.provider}
    return {
        "id": head.generation_id or "",
        "object": kind,
        "created": reading.created(head.generation_id),
        **{key: value for key, value in told.items() if value is not None},
        "error": envelope(STATUS_BY_ERROR_TYPE.get(error_type, 500), message, error_type),
    }


def build_prompt(
    opened: Opened, text: PromptText, messages: tuple[Message, ...], tools: Tools, formats: Sequence[str]
) -> Prompt:
    """The prompt out of what was counted; the fields named in `formats` are added to the tools' size."""
    if tools.raw is not None:
        opened.raw["tools"] = tools.raw
    format_bytes = sum(indented_bytes(opened.decoded(name)) for name in formats if name in opened.raw)
    return Prompt(
        ascii_bytes=text.ascii_bytes,
        other_bytes=text.other_bytes,
        tool_bytes=tools.size_bytes + format_bytes,
        message_count=text.wrap_count,
        tool_count=tools.count,
        image_count=text.image_count,
        opaque_media=text.media,
        audio=text.audio,
        remote_media=text.remote,
        cache_control=text.cache_control,
        cache_1h=text.cache_1h,
        shrinks="transforms" in opened.raw,
        messages=messages,
        fields_digest=prompt_digest(opened.raw),
    )


def lowered_reasoning(request: Request, bound: int | None) -> dict[str, bytes]:
    """The reasoning object as read, lowered if the bound was (M9); nothing if there is none."""
    raw = request.fields.get("reasoning")
    reasoning = bodies.value(raw) if raw is not None else None
    if not isinstance(reasoning, dict):
        return {}
    if bound is not None and bound != request.bound:
        reasoning = lower_reasoning(reasoning, bound)
    return {"reasoning": bodies.encode(reasoning)}


def _all_tools(opened: Opened, text: PromptText) -> Tools:
    tools, functions = read_tools(opened.raw.get("tools"), text), read_tools(opened.raw.get("functions"), text)
    return Tools(tools.size_bytes + functions.size_bytes, tools.count + functions.count)


def _reasoning_bound(opened: Opened) -> int | None:
    reasoning = opened.decoded("reasoning")
    return whole_value(reasoning.get("max_tokens"), "reasoning.max_tokens") if isinstance(reasoning, dict) else None


def _read(chunk: reading.Slices, part: str, *, terminal: bool) -> Reading:
    choices = [reading.slices(raw) for raw in reading.items(chunk.get("choices"))]
    finish = next((text for choice in choices if (text := reading.text(choice.get("finish_reason")))), None)
    failed = finish == "error" or any(reading.present(choice.get("error")) for choice in choices)
    return Reading(
        generation_id=reading.text(chunk.get("id")),
        model=reading.text(chunk.get("model")),
        provider=reading.text(chunk.get("provider")),
        usage=reading.chat_usage(chunk.get("usage")),
        finish=finish,
        error=failed or reading.present(chunk.get("error")),
        terminal=terminal,
        tool_names=tuple(name for choice in choices for name in _tool_names(choice.get(part))),
    )


def _tool_names(raw: bytes | None) -> Sequence[str]:
    if raw is None or (b"name" not in raw and b"\\u" not in raw):
        return ()
    calls = (reading.slices(call) for call in reading.items(reading.slices(raw).get("tool_calls")))
    names = (reading.text(reading.slices(call.get("function")).get("name")) for call in calls)
    return [name for name in names if name]
