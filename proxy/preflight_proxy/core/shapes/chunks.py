"""Bodies and stream chunks with `choices`: chat and text completions share them.

Source: openrouter.ai/docs/api_reference/streaming and /errors-and-debugging, 2026-10.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from preflight_proxy.core.shapes import usage_reading
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope
from preflight_proxy.core.shapes.shape import Reading

DONE = b"[DONE]"
_SERVER_ERROR = 500


def read_chunk(data: bytes, part: str, *, whole: bool = False) -> Reading:
    """What one chunk, or one whole body, says.

    The usage chunk comes with a choice or without, and may be merged with the one that ends the answer; an error may stand at
    the top or in a choice, or show in the finish reason alone. All are read, whatever comes.

    Args:
        data: The JSON text.
        part: The choice's field that holds tool calls: `delta` or `message`.
        whole: True for a body, which is its own last event.
    """
    if data.strip() == DONE:
        return Reading(terminal=True)
    chunk = usage_reading.slices(data)
    choices = [usage_reading.slices(raw) for raw in usage_reading.items(chunk.get("choices"))]
    finish = next((text for choice in choices if (text := usage_reading.text(choice.get("finish_reason")))), None)
    failed = finish == "error" or any(usage_reading.present(choice.get("error")) for choice in choices)
    return Reading(
        generation_id=usage_reading.text(chunk.get("id")),
        model=usage_reading.text(chunk.get("model")),
        provider=usage_reading.text(chunk.get("provider")),
        usage=usage_reading.chat_usage(chunk.get("usage")),
        finish=finish,
        error=failed or usage_reading.present(chunk.get("error")),
        terminal=whole,
        tool_names=usage_reading.names(name for choice in choices for name in _tool_names(choice.get(part))),
    )


def cut_chunk(head: Reading, kind: str, part: dict[str, object], message: str, error_type: str) -> bytes:
    """The chunk that ends a running stream as an error, then `[DONE]`.

    Clients take an end without an error for success, and a made-up `stop` for the answer.

    Args:
        head: What the stream said so far: its identity is kept.
        kind: The chunk's `object`.
        part: The choice's own field, empty.
        message: Why.
        error_type: The kind of error; OpenRouter's clients want one.
    """
    chunk = {
        "id": head.generation_id or "",
        "object": kind,
        "created": usage_reading.created(head.generation_id),
        "model": head.model or "",
        **({"provider": head.provider} if head.provider else {}),
        "error": envelope(STATUS_BY_ERROR_TYPE.get(error_type, _SERVER_ERROR), message, error_type),
        "choices": [{"index": 0, **part, "finish_reason": "error", "native_finish_reason": "error"}],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n"


def _tool_names(raw: bytes | None) -> Iterator[str | None]:
    for call in usage_reading.items(usage_reading.slices(raw).get("tool_calls")):
        yield usage_reading.text(usage_reading.slices(usage_reading.slices(call).get("function")).get("name"))
