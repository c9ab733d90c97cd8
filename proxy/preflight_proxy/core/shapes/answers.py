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
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event

ANSWER_NAME_CHARS_MAX = 128
"""Names of models, providers and tools are cut to this length, so that an answer cannot fill the memory."""
ANSWER_TOKENS_MAX = 10**12
ANSWER_TOKENS_DIGITS = 13
"""Digits of `ANSWER_TOKENS_MAX`."""
ANSWER_VALUES_MAX = 1_000_000
"""Commas in an array or object whose values are all kept. One with more is not read, because it would fill the memory."""
DONE = b"[DONE]"
_SERVER_ERROR = 500

ABSENT = msgspec.Raw()
"""Stands for a value that is not there."""
NOTHING = (b"", b"null")
"""The texts of values that are absent."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str | None)
_MALFORMED = (msgspec.DecodeError, RecursionError)
_CREATED = re.compile(r"gen-(\d{1,12})-")
_GENERATION_ID = re.compile(r"gen-[A-Za-z0-9_.:-]{1,120}")


class JsonObject(dict[str, msgspec.Raw]):
    """The raw values of a JSON object by key. They are decoded when they are asked for, since most never are."""

    def raw(self, name: str) -> msgspec.Raw:
        """The text of a value; `ABSENT` if there is none."""
        return self.get(name, ABSENT)

    def text(self, name: str) -> str | None:
        """See `read_text`."""
        return read_text(self.get(name, ABSENT))

    def has(self, name: str) -> bool:
        """True if the field is there and not null."""
        return bytes(self.get(name, ABSENT)) not in NOTHING

    def child(self, name: str) -> JsonObject:
        """An object inside this one; empty if it is absent or no object."""
        return read_object(self[name]) if name in self else JsonObject()

    def children(self, name: str) -> Sequence[JsonObject]:
        """The elements of an array, each as `child` reads it; empty if it is absent or no array."""
        return [read_object(item) for item in _elements(self.get(name, ABSENT))]


class AnswerFields(msgspec.Struct, gc=False):
    """What is read of any object in an answer with choices, undecoded; `ABSENT` where it is not there.

    It is the chunk, a choice in it, the message of one, the usage, or the details of the usage.
    """

    id: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    provider: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    choices: msgspec.Raw = ABSENT
    finish_reason: msgspec.Raw = ABSENT
    delta: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    cost: msgspec.Raw = ABSENT
    cost_details: msgspec.Raw = ABSENT
    upstream_inference_cost: msgspec.Raw = ABSENT
    is_byok: msgspec.Raw = ABSENT
    prompt_tokens: msgspec.Raw = ABSENT
    prompt_tokens_details: msgspec.Raw = ABSENT
    cached_tokens: msgspec.Raw = ABSENT
    cache_write_tokens: msgspec.Raw = ABSENT
    completion_tokens: msgspec.Raw = ABSENT
    completion_tokens_details: msgspec.Raw = ABSENT
    reasoning_tokens: msgspec.Raw = ABSENT


class _InputFields(AnswerFields, gc=False):
    """The same where a usage says `input` and `output`."""

    prompt_tokens: msgspec.Raw = msgspec.field(default=ABSENT, name="input_tokens")
    prompt_tokens_details: msgspec.Raw = msgspec.field(default=ABSENT, name="input_tokens_details")
    completion_tokens: msgspec.Raw = msgspec.field(default=ABSENT, name="output_tokens")
    completion_tokens_details: msgspec.Raw = msgspec.field(default=ABSENT, name="output_tokens_details")


_fields = msgspec.json.Decoder(AnswerFields)
INPUT_FIELDS: msgspec.json.Decoder[AnswerFields] = msgspec.json.Decoder(_InputFields)
_NO_FIELDS = AnswerFields()


def read_text(raw: msgspec.Raw) -> str | None:
    """Return a string, cut to a name's length; None if it is absent, empty or no string."""
    if bytes(raw) in NOTHING:
        return None
    try:
        return (_text.decode(raw) or "")[:ANSWER_NAME_CHARS_MAX] or None
    except _MALFORMED:
        return None


def read_count(raw: msgspec.Raw) -> int:
    """Return a number of tokens; 0 if it is absent or no whole number from 0 on."""
    if raw is ABSENT:
        return 0
    text = bytes(raw)
    if text.isdigit() and len(text) < ANSWER_TOKENS_DIGITS:
        return int(text)
    tokens = number(text)
    if tokens is None or not 0 <= tokens <= ANSWER_TOKENS_MAX or tokens != tokens.to_integral_value():
        return 0
    return int(tokens)


def read_object(raw: bytes | msgspec.Raw) -> JsonObject:
    """Return the values of a JSON object; empty if the text is none, or has more than `ANSWER_VALUES_MAX` commas."""
    if len(memoryview(raw)) > ANSWER_VALUES_MAX and bytes(raw).count(b",") > ANSWER_VALUES_MAX:
        return JsonObject()
    try:
        return JsonObject(_object.decode(raw))
    except _MALFORMED:
        return JsonObject()


def _read(raw: bytes | msgspec.Raw, words: msgspec.json.Decoder[AnswerFields] = _fields) -> AnswerFields:
    """The fields of an object; none if the text is no object."""
    if raw is ABSENT:
        return _NO_FIELDS
    try:
        return words.decode(raw)
    except _MALFORMED:
        return _NO_FIELDS


def _elements(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """The elements of an array; none if the text is no array, or has more than `ANSWER_VALUES_MAX` commas."""
    if raw is ABSENT or (len(memoryview(raw)) > ANSWER_VALUES_MAX and bytes(raw).count(b",") > ANSWER_VALUES_MAX):
        return []
    try:
        return _list.decode(raw)
    except _MALFORMED:
        return []


def read_identity(answer: JsonObject) -> Reading:
    """Return what an answer says of itself: its id, model and provider."""
    return Reading(generation_id=answer.text("id"), model=answer.text("model"), provider=answer.text("provider"))


def read_usage(raw: msgspec.Raw, words: msgspec.json.Decoder[AnswerFields] = _fields) -> CallUsage | None:
    """Return the usage of an answer; None if it has none.

    The cost is in pico-USD, and None if it is missing. On a provider key of the caller's own, `cost` is OpenRouter's fee alone,
    so the provider's bill is added; without that bill the cost is missing.

    Args:
        raw: The answer's `usage`. Its count of the prompt includes cached tokens.
        words: The API's words in it.

    Source: openrouter.ai/docs/cookbook/administration/usage-accounting and openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
    """
    if bytes(raw) in NOTHING:
        return None
    usage = _read(raw, words)
    cost, is_byok = cost_pusd(bytes(usage.cost)), bytes(usage.is_byok) == b"true"
    if cost is not None and is_byok:
        bill = cost_pusd(bytes(_read(usage.cost_details).upstream_inference_cost))
        cost = None if bill is None else cost + bill
    prompt = _read(usage.prompt_tokens_details)
    return CallUsage(
        cost_pusd=cost,
        prompt_tokens=read_count(usage.prompt_tokens),
        cached_tokens=read_count(prompt.cached_tokens),
        cache_write_tokens=read_count(prompt.cache_write_tokens),
        completion_tokens=read_count(usage.completion_tokens),
        reasoning_tokens=read_count(_read(usage.completion_tokens_details).reasoning_tokens),
        is_byok=is_byok,
    )


def generation_id(text: str | None) -> str | None:
    """Return the `id` of a body if it is a generation's; other ids (`resp_...`, `chatcmpl-...`) cannot be looked up."""
    return text if text is not None and _GENERATION_ID.fullmatch(text) else None


def created(generation_id: str | None) -> int:
    """Return the time in a generation id (`gen-<epoch seconds>-...`); 0 if it shows none."""
    match = _CREATED.match(generation_id or "")
    return int(match[1]) if match else 0


def read_chunk(data: bytes, *, whole: bool = False) -> Reading:
    """Return what one chunk, or one whole body, says.

    The usage chunk comes with a choice or without, and may be merged with the one that ends the answer. An error may stand at
    the top or in a choice, or show in the finish reason alone. All of these are read.

    Args:
        data: The JSON text.
        whole: True for a body, which is its own last event.
    """
    if data[:1] != b"{" and data.strip() == DONE:
        return Reading(terminal=True)
    chunk = _read(data)
    finish, error = None, bytes(chunk.error) not in NOTHING
    tool_names: tuple[str, ...] = ()
    for raw in _elements(chunk.choices):
        choice = _read(raw)
        finish = finish or read_text(choice.finish_reason)
        error = error or bytes(choice.error) not in NOTHING
        calls = _read(choice.message if choice.delta is ABSENT else choice.delta).tool_calls
        if calls is not ABSENT:
            names = [read_object(call).child("function").text("name") for call in _elements(calls)]
            tool_names += tuple(name for name in names if name)
    return Reading(
        generation_id=read_text(chunk.id),
        model=read_text(chunk.model),
        provider=read_text(chunk.provider),
        usage=read_usage(chunk.usage),
        finish=finish,
        error=error or finish == "error",
        terminal=whole,
        tool_names=tool_names,
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


class ChoicesShape(Shape):
    """The reading of answers with `choices`, and OpenRouter's error body."""

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        return read_chunk(body, whole=True)

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`."""
        return read_chunk(event.data)

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return envelope_body(status, message, error_type)
