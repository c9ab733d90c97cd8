"""Reads a request in steps: cuts its top level, reads its fields, counts its messages.

An agent sends the same fields with each call, and most messages again. Both are remembered by their bytes, so only what is new is
decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

import msgspec

from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes.body import BadRequest, Json, Slice
from preflight_proxy.core.shapes.fields import Rule
from preflight_proxy.core.shapes.parsed_request import ParsedRequest, build_request, fields_hash, parse_request
from preflight_proxy.core.shapes.prompt import build_prompt, with_messages
from preflight_proxy.core.shapes.prompt_text import PromptText, count_message, count_plain
from preflight_proxy.core.shapes.shape import Message, Reading, Request, UnknownFields
from preflight_proxy.core.shapes.steps import (
    KNOWN_MESSAGE_COST,
    NEW_MESSAGE_COST,
    STEP_COST,
    Steps,
    apart,
    run_steps,
    text_cost,
)
from preflight_proxy.core.shapes.tools import Api, Tools, kept_tools, read_tools
from preflight_proxy.core.sse import Event

MESSAGES_MAX = 8192
"""Messages whose counts are remembered from call to call, half a kilobyte each."""
FRAMES_MAX = 512
"""Frames that are remembered, a few kilobytes each."""
FRAME_BYTES_MAX = 4096
"""A frame is remembered only if its fields are not longer. Those below do not count, because it keeps nothing of their text."""
_NOT_KEPT = frozenset({"tools", "functions", "system", "instructions"})
STEP_MESSAGES = STEP_COST // KNOWN_MESSAGE_COST // 2
"""Messages that are looked up at once: half a step, and the other half decodes the first of those that are new."""
PLAIN_BYTES_MAX = STEP_COST // 4
"""Up to this size a message is counted at once if it is plain text."""
HASHED_BYTES_MAX = 16 * STEP_COST
"""Up to this size the messages of a body are hashed in a step; those of a longer one, which may be one message, in a thread."""
UNREAD_BYTES_MAX = 2**18
"""Up to this size a body is cut into its messages within a millisecond or two."""


class Frame(msgspec.Struct, frozen=True):
    """A request but its prompt field.

    Attributes:
        request: The request, without fields, as if its prompt were empty.
        names: The fields that leave, in order, the prompt field among them; empty if all do.
        own: Of these, those that leave otherwise than they came.
        kept_tools: The positions of the tools that leave; None if all do.
        text: The counts of the text in its fields.
        comma_count: The commas in its fields and between them.
        digest: A running SHA-256 over its fields, for `Request.digest`.
    """

    request: Request
    names: tuple[str, ...]
    own: dict[str, bytes]
    kept_tools: tuple[int, ...] | None
    text: PromptText
    comma_count: int
    digest: hashlib._Hash


_frames: Recent[tuple[object, ...], Frame] = Recent(FRAMES_MAX)
_messages: Recent[bytes, Message] = Recent(MESSAGES_MAX)
"""By the SHA-256 of their bytes, because no message depends on what stands around it."""


class Shape(Protocol):
    """An API shape (one file each): what its requests look like, how they are read, and how it says what it answers.

    It has no state.

    Attributes:
        name: Its name in logs and in costs.jsonl.
        path: Its path below the API base.
        bound_fields: The fields that bound the output, all spellings; empty if there is no output.
        fields: The top-level fields that it knows.
        prompt_field: The one that holds the messages, the items, or the texts.
        rules: Rules for fields besides those of all APIs.
        roles: The roles of its messages; empty for an API of texts.
        formats: Fields beside the tools that a template may write into the prompt.
        tools: The fields that declare tools, each with the API that decides which of them run at the client.
        takes_text: True if the prompt may be a text in place of messages.
        values_max: The most values in a body.
    """

    name: str
    path: str
    bound_fields: tuple[str, ...]
    fields: frozenset[str]
    prompt_field: str
    rules: Mapping[str, Rule] = MappingProxyType({})
    roles: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    tools: Mapping[str, Api] = MappingProxyType({})
    takes_text: bool = False
    values_max: int = bodies.VALUES_MAX

    def system(self, parsed: ParsedRequest, text: PromptText) -> None:
        """Count the text of the prompt that stands beside the messages."""
        return

    def shrinks(self, parsed: ParsedRequest) -> bool:
        """True if upstream may shorten the prompt."""
        return False

    def texts(self, prompt: Json, text: PromptText) -> int:
        """Count the prompt field of an API of texts, and return how many prompts it has."""
        raise TypeError("an API of messages has no texts")

    def read_body(self, body: bytes) -> Reading:
        """What a whole 2xx body says; white space ahead of it is allowed. Never raises."""

    def read_event(self, event: Event) -> Reading:
        """What one event of a stream says. Never raises."""

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """An error body in this API's dialect."""

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """The events that end a running stream as an error.

        Args:
            head: What the stream has said so far.
            sequence_number: The number of the event, where the API numbers them.
            message: Why.
            error_type: The kind of error.
        """

    def read(self, body: bytes, unknown_fields: UnknownFields) -> Request:
        """Read a request at once; see `read_steps`."""
        return run_steps(self.read_steps(body, unknown_fields))

    def read_steps(self, body: bytes, unknown_fields: UnknownFields) -> Steps[Request]:
        """Read a request, in steps that each take at most a few milliseconds.

        Args:
            body: The whole body.
            unknown_fields: What happens to fields that no table names.

        Raises:
            BadRequest: It cannot be read, or asks for something whose price has no bound.
        """
        if len(body) > STEP_COST:
            yield None
        if not body.isascii():
            yield from bodies.check_utf8(body)
        slices = bodies.cut(body)
        frame = yield from _frame(self, slices, unknown_fields, body)
        raw = slices.get(self.prompt_field)
        digest, text, sequence_count = frame.digest.copy(), msgspec.structs.replace(frame.text), 1
        messages: list[Message] = []
        if not self.roles:
            digest.update(hashlib.sha256(raw or b"").digest())
            sequence_count = yield from _count_texts(self, b"null" if raw is None else bytes(raw), text, body)
        elif raw is None:
            raise BadRequest(f"The field {self.prompt_field!r} is missing.")
        else:
            messages = yield from _read_messages(self, body, raw, frame, digest, text)
        fields: dict[str, Slice] = {name: slices[name] for name in frame.names} if frame.names else {**slices}
        if frame.own:
            fields |= frame.own
        if frame.kept_tools is not None:
            fields["tools"] = kept_tools(bytes(slices["tools"]), frame.kept_tools)
        prompt = with_messages(frame.request.prompt, text, messages, sequence_count)
        return msgspec.structs.replace(frame.request, fields=fields, prompt=prompt, digest=digest.hexdigest())

    def unread_digest(self, body: bytes) -> str:
        """Return a digest that recognises a repetition of a body that is refused unread (M19); labels of a small one are left out.

        It is the `Request.digest` of a small body whose fields all leave.
        """
        if len(body) <= UNREAD_BYTES_MAX:
            with contextlib.suppress(BadRequest):
                slices = bodies.top_level(body)
                digest = fields_hash(slices, self.prompt_field)
                for element in elements_of(self, slices.get(self.prompt_field, b"[]")):
                    digest.update(hashlib.sha256(element).digest())
                return digest.hexdigest()
        return hashlib.sha256(body).hexdigest()


def _frame(shape: Shape, slices: Mapping[str, Slice], unknown_fields: UnknownFields, body: bytes) -> Steps[Frame]:
    """The frame of a request, remembered by all that it depends on."""
    rest = [b"" if name == shape.prompt_field else bytes(raw) for name, raw in slices.items()]
    joined = b"".join(rest)
    key = (shape.name, unknown_fields, tuple(slices), tuple(map(len, rest)), hashlib.sha256(joined).digest())
    frame = _frames.get(key)
    if frame is None:
        fields = dict(zip(slices, rest, strict=True))
        yield from bodies.check_values(body, joined.count(b","), shape.values_max)
        frame = yield from apart(partial(_new_frame, shape, fields, unknown_fields), text_cost(joined))
        if sum(len(name) + len(raw) for name, raw in fields.items() if name not in _NOT_KEPT) <= FRAME_BYTES_MAX:
            _frames.put(key, frame)
    return frame


def _new_frame(shape: Shape, fields: Mapping[str, bytes], unknown_fields: UnknownFields) -> Frame:
    parsed = parse_request(fields, unknown_fields, known=shape.fields, rules=shape.rules)
    text, tools = PromptText(), Tools()
    shape.system(parsed, text)
    for name, api in shape.tools.items():
        tools = tools.joined(read_tools(parsed.raw.get(name), text, api))
    if tools.kept is not None:
        parsed.raw["tools"] = kept_tools(parsed.raw["tools"], tools.kept)
    prompt = build_prompt(parsed, text, shape.prompt_field, tools, shape.formats, shrinks=shape.shrinks(parsed))
    request = build_request(parsed, shape.name, shape.bound_fields, prompt)
    text.opaque_bytes = 0  # of messages alone
    names = tuple(request.fields)
    return Frame(
        request=msgspec.structs.replace(
            request, fields={}, dropped=(*request.dropped, *tools.dropped), prompt_field=shape.prompt_field
        ),
        names=() if names == tuple(fields) else names,
        own={name: raw for name, raw in request.fields.items() if name != "tools" and raw != fields[name]},
        kept_tools=tools.kept,
        text=text,
        comma_count=sum(1 + raw.count(b",") for raw in fields.values()),
        digest=fields_hash({name: fields[name] for name in parsed.digested}, shape.prompt_field),
    )


def _read_messages(
    shape: Shape, body: bytes, raw: Slice, frame: Frame, digest: hashlib._Hash, text: PromptText
) -> Steps[list[Message]]:
    """Read the messages of one prompt; those that are remembered are only hashed.

    Args:
        shape: Its roles are the messages'.
        body: The whole body, whose values are counted, once, where its commas could be those of too many.
        raw: The prompt field.
        frame: The other fields.
        digest: Takes the hashes of the messages.
        text: Takes their counts.

    Raises:
        BadRequest: One is refused, or there are too many values.
    """
    size_bytes, values_max = len(body), shape.values_max
    if size_bytes > STEP_COST:
        yield None
    elements = elements_of(shape, raw)
    count = len(elements)
    commas = frame.comma_count + count
    messages: list[Message] = []
    for start in range(0, count, STEP_MESSAGES):
        if start or size_bytes > STEP_COST:
            yield None
        chunk = elements[start : start + STEP_MESSAGES] if count > STEP_MESSAGES else elements
        keys = (yield partial(_hashes, chunk)) if size_bytes > HASHED_BYTES_MAX else _hashes(chunk)
        digest.update(b"".join(keys))
        cost, found = KNOWN_MESSAGE_COST * len(chunk), []
        for key, element, message in zip(keys, chunk, _messages.get_all(keys), strict=True):
            if message is None:
                new = bytes(element)
                new_cost = len(new)
                message = count_plain(new, key) if new_cost <= PLAIN_BYTES_MAX else None
                if message is None:
                    if commas + new_cost > values_max and commas + new.count(b",") > values_max:
                        yield from bodies.check_values(body, commas + new.count(b","), values_max)
                        values_max = size_bytes
                    new_cost, counting = text_cost(new), partial(count_message, new, key)
                    message = (yield counting) if new_cost > STEP_COST else counting()
                _messages.put(key, message)
                cost += NEW_MESSAGE_COST + new_cost
                if cost > STEP_COST:
                    yield None
                    cost = 0
            commas += message.comma_count
            found.append(message)
        text.add_messages(found, shape.roles)
        messages += found
        if commas > values_max:
            yield from bodies.check_values(body, commas, values_max)
            values_max = size_bytes
    if count > STEP_MESSAGES:
        elements = ()  # to free so many takes time too
        yield None
    return messages


def _hashes(elements: Sequence[Slice]) -> list[bytes]:
    return [hashlib.sha256(element).digest() for element in elements]


def elements_of(shape: Shape, raw: Slice) -> Sequence[Slice]:
    """The slices of the messages. A text in place of them is one, as are the texts of an API without messages."""
    if not shape.roles or (shape.takes_text and bytes(memoryview(raw)[:1]) != b"["):
        return [raw]
    return bodies.elements(raw)


def _count_texts(shape: Shape, raw: bytes, text: PromptText, body: bytes) -> Steps[int]:
    """Count the texts of a prompt without messages, and return how many prompts they are."""
    yield from bodies.check_values(body, body.count(b","), shape.values_max)
    return (yield from apart(lambda: shape.texts(bodies.value(raw), text), text_cost(raw)))
