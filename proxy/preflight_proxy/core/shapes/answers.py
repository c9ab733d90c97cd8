"""Reads answers, and ends a stream with choices: chat, completions and embeddings share the latter.

A value that is missing or malformed reads as absent; nothing raises (M2 (JSON numbers), M16 (usage in an answer)).

Source: openrouter.ai/docs/api_reference/streaming and /errors-and-debugging, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from preflight_proxy.core.money import cost_pusd, number
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope, envelope_body
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event

ANSWER_NAME_CHARS_MAX = 128
"""Names of models, providers and tools are cut to this length, so that an answer cannot fill the memory."""
ANSWER_TOKENS_MAX = 10**12
ANSWER_TOKENS_DIGITS = 13
"""Digits of `ANSWER_TOKENS_MAX`."""
ANSWER_VALUES_MAX = 1_000_000
"""Commas in an answer. One with more is not read: it is no answer of a model, and would fill the memory."""
DONE = b"[DONE]"
_SERVER_ERROR = 500

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str | None)
_MALFORMED = (msgspec.DecodeError, RecursionError)
_CREATED = re.compile(r"gen-(\d{1,12})-")
_GENERATION_ID = re.compile(r"gen-[A-Za-z0-9_.:-]{1,120}")


class JsonObject(dict[str, msgspec.Raw]):
    """The raw values of a JSON object by key. They are decoded when they are asked for, since most never are."""

    def raw(self, name: str) -> bytes:
        """The text of a value; empty if it is absent."""
        return bytes(self[name]) if name in self else b""

    def text(self, name: str) -> str | None:
        """A string, cut to a name's length; None if it is absent, empty or no string."""
        if name not in self:
            return None
        try:
            return (_text.decode(self[name]) or "")[:ANSWER_NAME_CHARS_MAX] or None
        except _MALFORMED:
            return None

    def has(self, name: str) -> bool:
        """True if the field is there and not null."""
        return name in self and self.raw(name) != b"null"

    def count(self, name: str) -> int:
        """A number of tokens; 0 if it is absent or no whole number from 0 on."""
        if name not in self:
            return 0
        raw = self.raw(name)
        if raw.isdigit() and len(raw) < ANSWER_TOKENS_DIGITS:
            return int(raw)
        tokens = number(raw)
        if tokens is None or not 0 <= tokens <= ANSWER_TOKENS_MAX or tokens != tokens.to_integral_value():
            return 0
        return int(tokens)

    def child(self, name: str) -> JsonObject:
        """An object inside this one; empty if it is absent or no object."""
        return read_object(self[name]) if name in self else JsonObject()

    def children(self, name: str) -> Sequence[JsonObject]:
        """The elements of an array, each as `child` reads it; empty if it is absent or no array."""
        if name not in self:
            return ()
        raw = self.raw(name)
        if raw.count(b",") > ANSWER_VALUES_MAX:
            return ()
        try:
            return [read_object(item) for item in _list.decode(raw)]
        except _MALFORMED:
            return ()


def read_object(raw: bytes | msgspec.Raw) -> JsonObject:
    """Return the values of a JSON object; empty if the text is none, or has more than `ANSWER_VALUES_MAX` commas."""
    if len(memoryview(raw)) > ANSWER_VALUES_MAX and bytes(raw).count(b",") > ANSWER_VALUES_MAX:
        return JsonObject()
    try:
        return JsonObject(_object.decode(raw))
    except _MALFORMED:
        return JsonObject()


def read_identity(answer: JsonObject) -> Reading:
    """Return what an answer says of itself: its id, model and provider."""
    return Reading(generation_id=answer.text("id"), model=answer.text("model"), provider=answer.text("provider"))


def read_usage(answer: JsonObject, prompt: str = "prompt", completion: str = "completion") -> CallUsage | None:
    """Return the usage in an answer; None if it has none.

    The cost is in pico-USD, and None if it is missing. On a provider key of the caller's own, `cost` is OpenRouter's fee alone,
    so the provider's bill is added; without that bill the cost is missing.

    Args:
        answer: The object that holds `usage`.
        prompt: The API's word for the prompt: `prompt` or `input`. Its count includes cached tokens.
        completion: The API's word for the answer: `completion` or `output`.

    Source: openrouter.ai/docs/cookbook/administration/usage-accounting and openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
    """
    if not answer.has("usage"):
        return None
    usage = answer.child("usage")
    cost, is_byok = cost_pusd(usage.raw("cost")), usage.raw("is_byok") == b"true"
    if cost is not None and is_byok:
        bill = cost_pusd(usage.child("cost_details").raw("upstream_inference_cost"))
        cost = None if bill is None else cost + bill
    details = usage.child(f"{prompt}_tokens_details")
    return CallUsage(
        cost_pusd=cost,
        prompt_tokens=usage.count(f"{prompt}_tokens"),
        cached_tokens=details.count("cached_tokens"),
        cache_write_tokens=details.count("cache_write_tokens"),
        completion_tokens=usage.count(f"{completion}_tokens"),
        reasoning_tokens=usage.child(f"{completion}_tokens_details").count("reasoning_tokens"),
        is_byok=is_byok,
    )


def generation_id(text: str | None) -> str | None:
    """Return the `id` of a body if it is a generation's; other ids (`resp_...`, `chatcmpl-...`) cannot be looked up."""
    return text if text is not None and _GENERATION_ID.fullmatch(text) else None


def created(generation_id: str | None) -> int:
    """Return the time in a generation id (`gen-<epoch seconds>-...`); 0 if it shows none."""
    match = _CREATED.match(generation_id or "")
    return int(match[1]) if match else 0


def read_chunk(data: bytes, part: str, *, whole: bool = False) -> Reading:
    """Return what one chunk, or one whole body, says.

    The usage chunk comes with a choice or without, and may be merged with the one that ends the answer. An error may stand at
    the top or in a choice, or show in the finish reason alone. All of these are read.

    Args:
        data: The JSON text.
        part: The choice's field that holds tool calls: `delta` or `message`.
        whole: True for a body, which is its own last event.
    """
    if data.strip() == DONE:
        return Reading(terminal=True)
    chunk = read_object(data)
    choices = chunk.children("choices")
    finish = next((reason for choice in choices if (reason := choice.text("finish_reason"))), None)
    calls = [call for choice in choices for call in choice.child(part).children("tool_calls")]
    return Reading(
        generation_id=chunk.text("id"),
        model=chunk.text("model"),
        provider=chunk.text("provider"),
        usage=read_usage(chunk),
        finish=finish,
        error=finish == "error" or any(part.has("error") for part in (chunk, *choices)),
        terminal=whole,
        tool_names=tuple(name for call in calls if (name := call.child("function").text("name"))),
    )


def cut_chunk(head: Reading, kind: str, part: dict[str, object], message: str, error_type: str) -> bytes:
    """Return the chunk that ends a running stream as an error, and `[DONE]`.

    Clients take an end without an error for success, and a made-up `stop` for the answer.

    Args:
        head: What the stream has said so far: its identity is kept.
        kind: The chunk's `object`.
        part: The choice's own field, empty.
        message: Why.
        error_type: The kind of error; OpenRouter's clients want one.
    """
    chunk = {
        "id": head.generation_id or "",
        "object": kind,
        "created": created(head.generation_id),
        "model": head.model or "",
        **({"provider": head.provider} if head.provider else {}),
        "error": envelope(STATUS_BY_ERROR_TYPE.get(error_type, _SERVER_ERROR), message, error_type),
        "choices": [{"index": 0, **part, "finish_reason": "error", "native_finish_reason": "error"}],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n"


class ChoicesShape:
    """The reading of answers with `choices`, and OpenRouter's error body.

    Attributes:
        event_part: The field of a streamed choice that holds tool calls.
    """

    event_part = "message"

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        return read_chunk(body.strip(), "message", whole=True)

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`."""
        return read_chunk(event.data, self.event_part)

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return envelope_body(status, message, error_type)
