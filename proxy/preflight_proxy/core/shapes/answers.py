"""Reads answers, and ends a stream with choices: chat, completions and embeddings share the latter.

A value that is missing or malformed reads as absent; nothing raises (M2 (JSON numbers), M16 (usage in an answer)).

Source: openrouter.ai/docs/api_reference/streaming and /errors-and-debugging, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, TypeVar, get_args, get_origin

import msgspec
from msgspec import defstruct
from msgspec.structs import fields

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


Part = TypeVar("Part", bound=msgspec.Struct)


class JsonObject(dict[str, msgspec.Raw]):
    """The raw values of a JSON object by key. They are decoded when they are asked for, since most never are."""

    def text(self, name: str) -> str | None:
        """See `read_text`."""
        return read_text(self.get(name, ABSENT))

    def has(self, name: str) -> bool:
        """True if the field is there and not null."""
        return bytes(self.get(name, ABSENT)) not in NOTHING

    def part(self, name: str, kind: type[Part]) -> Part | None:
        """See `decode_part`; None if it is absent or null."""
        return decode_part(self[name], kind) if self.has(name) else None

    def child(self, name: str) -> JsonObject:
        """An object inside this one; empty if it is absent or no object."""
        return read_object(self[name]) if name in self else JsonObject()

    def children(self, name: str) -> Sequence[JsonObject]:
        """The elements of an array, each as `child` reads it; empty if it is absent or no array."""
        return [read_object(item) for item in _elements(self.get(name, ABSENT))]


Count = Annotated[int, msgspec.Meta(ge=0, le=ANSWER_TOKENS_MAX)]


class Function(msgspec.Struct, gc=False):
    """The function of a tool call."""

    name: str | None = None


class AnswerToolCall(msgspec.Struct, gc=False):
    """A call of a tool that the client runs."""

    function: Function | None = None


class AnswerMessage(msgspec.Struct, gc=False):
    """What the model says, or a part of it."""

    tool_calls: list[AnswerToolCall] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers to a request."""

    finish_reason: str | None = None
    error: msgspec.Raw = ABSENT
    delta: AnswerMessage | None = None
    message: AnswerMessage | None = None


class TokenDetails(msgspec.Struct, gc=False):
    """What the tokens of a prompt or of an answer were."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    thinking_tokens: Count | None = None


class CostDetails(msgspec.Struct, gc=False):
    """What the provider bills on a key of the caller's own."""

    upstream_inference_cost: msgspec.Raw = ABSENT


class ChoicesUsage(msgspec.Struct, gc=False):
    """The usage of an answer with choices."""

    cost: msgspec.Raw = ABSENT
    is_byok: bool | None = None
    cost_details: CostDetails | None = None
    prompt_tokens: Count | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens: Count | None = None
    completion_tokens_details: TokenDetails | None = None


class InputUsage(ChoicesUsage, gc=False):
    """The same where it says `input` and `output`."""

    prompt_tokens: Count | None = msgspec.field(default=None, name="input_tokens")
    prompt_tokens_details: TokenDetails | None = msgspec.field(default=None, name="input_tokens_details")
    completion_tokens: Count | None = msgspec.field(default=None, name="output_tokens")
    completion_tokens_details: TokenDetails | None = msgspec.field(default=None, name="output_tokens_details")


class ChoicesAnswer(msgspec.Struct, gc=False):
    """What is read of a body or a chunk with choices."""

    id: str | None = None
    model: str | None = None
    provider: str | None = None
    error: msgspec.Raw = ABSENT
    choices: list[Choice] | None = None
    usage: ChoicesUsage | None = None


def decode_part(raw: bytes | msgspec.Raw, kind: type[Part]) -> Part:
    """Decode an answer, or an object in it. A value that is malformed reads as absent, and hides no other."""
    if len(memoryview(raw)) <= ANSWER_VALUES_MAX:
        try:
            return msgspec.json.decode(raw, type=kind)
        except _MALFORMED:
            pass  # each value in it is decoded by itself
    try:
        values = _undecoded(kind).decode(raw)
    except _MALFORMED:
        return kind()
    return kind(**{field.name: _decode_value(getattr(values, field.name), field.type) for field in fields(kind)})


@cache
def _undecoded(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    """Decodes the same fields, and keeps the text of each."""
    named = {field.name: field.encode_name for field in fields(kind)}
    return msgspec.json.Decoder(defstruct("Undecoded", [(name, msgspec.Raw, ABSENT) for name in named], rename=named))


def _decode_value(raw: msgspec.Raw, kind: object) -> object:
    """Decode a value of a declared type; None if it is malformed."""
    if kind is msgspec.Raw:
        return raw
    inner = get_args(kind)[0]  # all others may be null
    if get_origin(inner) is list:
        return [decode_part(item, get_args(inner)[0]) for item in _elements(raw)]
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return None if bytes(raw) in NOTHING else decode_part(raw, inner)
    return read_text(raw) if inner is str else bytes(raw) == b"true" if inner is bool else read_count(raw)


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


def read_usage(usage: ChoicesUsage | None) -> CallUsage | None:
    """Return the usage of an answer, whose count of the prompt includes cached tokens; None if it has none.

    The cost is in pico-USD, and None if it is missing. On a provider key of the caller's own, `cost` is OpenRouter's fee alone,
    so the provider's bill is added; without that bill the cost is missing.

    Source: openrouter.ai/docs/cookbook/administration/usage-accounting and openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
    """
    if usage is None:
        return None
    cost = cost_pusd(bytes(usage.cost))
    if cost is not None and usage.is_byok:
        bill = cost_pusd(bytes(usage.cost_details.upstream_inference_cost)) if usage.cost_details is not None else None
        cost = None if bill is None else cost + bill
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return CallUsage(
        cost_pusd=cost,
        prompt_tokens=usage.prompt_tokens or 0,
        cached_tokens=(prompt and prompt.cached_tokens) or 0,
        cache_write_tokens=(prompt and prompt.cache_write_tokens) or 0,
        completion_tokens=usage.completion_tokens or 0,
        reasoning_tokens=(completion and completion.reasoning_tokens) or 0,
        is_byok=usage.is_byok is True,
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
    answer = decode_part(data, ChoicesAnswer)
    finish, error = None, bytes(answer.error) not in NOTHING
    tool_names: tuple[str, ...] = ()
    for choice in answer.choices or ():
        finish = finish or choice.finish_reason
        error = error or bytes(choice.error) not in NOTHING
        said = choice.message if choice.delta is None else choice.delta
        if said is not None and said.tool_calls:
            names = [call.function.name for call in said.tool_calls if call.function is not None]
            tool_names += tuple(name[:ANSWER_NAME_CHARS_MAX] for name in names if name)
    return Reading(
        generation_id=(answer.id or "")[:ANSWER_NAME_CHARS_MAX] or None,
        model=(answer.model or "")[:ANSWER_NAME_CHARS_MAX] or None,
        provider=(answer.provider or "")[:ANSWER_NAME_CHARS_MAX] or None,
        usage=read_usage(answer.usage),
        finish=(finish or "")[:ANSWER_NAME_CHARS_MAX] or None,
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
