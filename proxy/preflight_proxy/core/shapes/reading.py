"""Reads a request in steps: cuts its top level, reads its fields, counts its messages.

An agent sends the same fields with each call, and most messages again. Both are remembered by their bytes, so only what is new is
decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes.body import BadRequest, Json, Slice
from preflight_proxy.core.shapes.fields import Rule
from preflight_proxy.core.shapes.parsed_request import ParsedRequest, build_request, fields_hash, parse_request
from preflight_proxy.core.shapes.prompt import build_prompt, with_messages
from preflight_proxy.core.shapes.prompt_text import PromptText, count_message
from preflight_proxy.core.shapes.shape import Message, Request, Shape, UnknownFields
from preflight_proxy.core.shapes.steps import (
    KNOWN_MESSAGE_COST,
    KNOWN_TEXT_DIVISOR,
    NEW_MESSAGE_COST,
    STEP_COST,
    Steps,
    apart,
    text_cost,
)
from preflight_proxy.core.shapes.tools import Api, Tools, kept_tools, read_tools

MESSAGES_MAX = 8192
"""Messages whose counts are remembered from call to call, half a kilobyte each."""
FRAMES_MAX = 512
"""Frames that are remembered, a few kilobytes each."""
FRAME_BYTES_MAX = 4096
"""A frame is remembered only if its fields are not longer. Those below do not count, because it keeps nothing of their text."""
_NOT_KEPT = frozenset({"tools", "functions", "system", "instructions"})
STEP_MESSAGES = STEP_COST // KNOWN_MESSAGE_COST // 2
"""Messages that are looked up at once: half a step, and the other half decodes the first of those that are new."""
UNREAD_BYTES_MAX = 2**18
"""Up to this size a body is cut into its messages within a millisecond or two."""


class Form(msgspec.Struct, frozen=True):
    """What an API's requests look like.

    Attributes:
        fields: The top-level fields that it knows.
        prompt_field: The one that holds the messages, the items, or the texts.
        rules: Rules for fields besides those of all APIs.
        roles: The roles of its messages.
        formats: Fields beside the tools that a template may write into the prompt.
        tools: The fields that declare tools, each with the API that decides which of them run at the client.
        system: Counts the text of the prompt that stands beside the messages.
        shrinks: Decides whether upstream may shorten the prompt.
        takes_text: True if the prompt may be a text in place of messages.
        texts: For an API without messages: counts the decoded prompt field, and returns how many prompts it has.
        values_max: The most values in a body.
    """

    fields: frozenset[str]
    prompt_field: str
    rules: Mapping[str, Rule] = {}
    roles: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    tools: Mapping[str, Api] = {}
    system: Callable[[ParsedRequest, PromptText], None] = lambda _parsed, _text: None
    shrinks: Callable[[ParsedRequest], bool] = lambda _parsed: False
    takes_text: bool = False
    texts: Callable[[Json, PromptText], int] | None = None
    values_max: int = bodies.VALUES_MAX


class Frame(msgspec.Struct, frozen=True):
    """A request but its prompt field.

    Attributes:
        request: The request, without fields, as if its prompt were empty.
        names: The fields that leave, in order, the prompt field among them.
        own: Of these, those that leave otherwise than they came.
        kept_tools: The positions of the tools that leave; None if all do.
        value_count: See `PromptText`.
        comma_count: The commas in its fields and between them.
        digest: A running SHA-256 over its fields, for `Request.digest`.
    """

    request: Request
    names: tuple[str, ...]
    own: dict[str, bytes]
    kept_tools: tuple[int, ...] | None
    value_count: int
    comma_count: int
    digest: hashlib._Hash


_frames: Recent[tuple[object, ...], Frame] = Recent(FRAMES_MAX)
_messages: Recent[bytes, Message] = Recent(MESSAGES_MAX)
"""By the SHA-256 of their bytes, because no message depends on what stands around it."""


def read_steps(
    shape: Shape, form: Form, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields
) -> Steps[Request]:
    """Read a request: see `Shape.read_steps`.

    Raises:
        BadRequest: See `Shape.read`.
    """
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise BadRequest("Send the request body uncompressed.", 415)
    slices = yield from bodies.cut(body)
    frame = yield from _frame(shape, form, slices, unknown_fields, body)
    request, raw = frame.request, slices.get(form.prompt_field)
    digest, text, sequence_count = frame.digest.copy(), PromptText(value_count=frame.value_count), 1
    messages: Sequence[Message] = ()
    if form.texts is not None:
        digest.update(hashlib.sha256(raw or b"").digest())
        sequence_count = yield from _texts(form, b"null" if raw is None else bytes(raw), text, body)
    elif raw is None:
        raise BadRequest(f"The field {form.prompt_field!r} is missing.")
    else:
        messages = yield from _read_messages(form, body, raw, frame.comma_count, digest)
        text.add_messages(messages, form.roles)
    fields: dict[str, Slice] = {
        name: slices[name] if name == form.prompt_field else frame.own.get(name) or bytes(slices[name])
        for name in frame.names
    }
    if frame.kept_tools is not None:
        fields["tools"] = kept_tools(bytes(slices["tools"]), frame.kept_tools)
    prompt = with_messages(request.prompt, text, messages, sequence_count)
    return msgspec.structs.replace(request, fields=fields, prompt=prompt, digest=digest.hexdigest())


def unread_digest(form: Form, body: bytes) -> str:
    """Return a digest that recognises a repetition of a body that is refused unread (M19); labels of a small body are left out.

    It is the `Request.digest` of a small body whose fields all leave.
    """
    if len(body) <= UNREAD_BYTES_MAX:
        with contextlib.suppress(BadRequest):
            slices = bodies.top_level(body)
            digest = fields_hash(slices, form.prompt_field)
            for element in _elements(form, slices.get(form.prompt_field, b"[]")):
                digest.update(hashlib.sha256(element).digest())
            return digest.hexdigest()
    return hashlib.sha256(body).hexdigest()


def _frame(
    shape: Shape, form: Form, slices: Mapping[str, Slice], unknown_fields: UnknownFields, body: bytes
) -> Steps[Frame]:
    """The frame of a request, remembered by all that it depends on."""
    rest = [b"" if name == form.prompt_field else bytes(raw) for name, raw in slices.items()]
    joined = b"".join(rest)
    key = (shape.name, unknown_fields, tuple(slices), tuple(map(len, rest)), hashlib.sha256(joined).digest())
    frame = _frames.get(key)
    if frame is None:
        fields = dict(zip(slices, rest, strict=True))
        yield from bodies.check_values(body, joined.count(b","), form.values_max)
        frame = yield from apart(partial(_new_frame, shape, form, fields, unknown_fields), text_cost(joined))
        if sum(len(name) + len(raw) for name, raw in fields.items() if name not in _NOT_KEPT) <= FRAME_BYTES_MAX:
            _frames.put(key, frame)
    return frame


def _new_frame(shape: Shape, form: Form, fields: Mapping[str, bytes], unknown_fields: UnknownFields) -> Frame:
    parsed = parse_request(fields, unknown_fields, known=form.fields, rules=form.rules)
    text, tools = PromptText(), Tools()
    form.system(parsed, text)
    for name, api in form.tools.items():
        tools = tools.joined(read_tools(parsed.raw.get(name), text, api))
    if tools.kept is not None:
        parsed.raw["tools"] = kept_tools(parsed.raw["tools"], tools.kept)
    prompt = build_prompt(parsed, text, form.prompt_field, tools, form.formats, shrinks=form.shrinks(parsed))
    request = build_request(parsed, shape, prompt)
    return Frame(
        request=msgspec.structs.replace(
            request, fields={}, dropped=(*request.dropped, *tools.dropped), prompt_field=form.prompt_field
        ),
        names=tuple(request.fields),
        own={name: raw for name, raw in request.fields.items() if name != "tools" and raw != fields[name]},
        kept_tools=tools.kept,
        value_count=text.value_count,
        comma_count=sum(1 + raw.count(b",") for raw in fields.values()),
        digest=fields_hash({name: fields[name] for name in parsed.digested}, form.prompt_field),
    )


def _read_messages(form: Form, body: bytes, raw: Slice, commas: int, digest: hashlib._Hash) -> Steps[list[Message]]:
    """Read the messages of one prompt; those that are remembered are only hashed.

    Args:
        form: What the API's requests look like.
        body: The whole body, whose values are counted, once, where its commas could be those of too many.
        raw: The prompt field.
        commas: The commas of the other fields.
        digest: Takes the hashes of the messages.

    Raises:
        BadRequest: One is refused, or there are too many values.
    """
    size_bytes = len(body)
    is_long = size_bytes > KNOWN_TEXT_DIVISOR * STEP_COST
    if is_long:
        yield None
    elements, commas_max = _elements(form, raw), form.values_max
    count = len(elements)
    if size_bytes > STEP_COST:
        yield None
    messages: list[Message] = []
    commas += count
    for start in range(0, count, STEP_MESSAGES):
        chunk = elements[start : start + STEP_MESSAGES]
        keys = (yield partial(_hashes, chunk)) if is_long else _hashes(chunk)
        digest.update(b"".join(keys))
        cost = KNOWN_MESSAGE_COST * len(chunk)
        for key, element, message in zip(keys, chunk, _messages.get_all(keys), strict=True):
            if message is None and (message := _messages.get(key)) is None:
                new = bytes(element)
                if commas + len(new) > commas_max and commas + new.count(b",") > commas_max:
                    yield from bodies.check_values(body, commas + new.count(b","), commas_max)
                    commas_max = size_bytes
                new_cost = text_cost(new)
                message = (yield partial(count_message, new)) if new_cost > STEP_COST else count_message(new)
                _messages.put(key, message)
                cost += NEW_MESSAGE_COST + new_cost
                if cost > STEP_COST:
                    yield None
                    cost = 0
            commas += message.comma_count
            messages.append(message)
        if commas > commas_max:
            yield from bodies.check_values(body, commas, commas_max)
            commas_max = size_bytes
        if start + STEP_MESSAGES < count:
            yield None
    return messages


def _hashes(elements: Sequence[Slice]) -> list[bytes]:
    return [hashlib.sha256(element).digest() for element in elements]


def _elements(form: Form, raw: Slice) -> Sequence[Slice]:
    """The slices of the messages. A text in place of them is one, as are the texts of an API without messages."""
    if form.texts is not None or (form.takes_text and bytes(memoryview(raw)[:1]) != b"["):
        return [raw]
    return bodies.elements(raw)


def _texts(form: Form, raw: bytes, text: PromptText, body: bytes) -> Steps[int]:
    """Count the texts of a prompt without messages, and return how many prompts they are."""
    yield from bodies.check_values(body, body.count(b","), form.values_max)

    def count() -> int:
        assert form.texts is not None, "an API without messages counts texts"
        return form.texts(bodies.value(raw), text)

    return (yield from apart(count, text_cost(raw)))
