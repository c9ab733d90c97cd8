"""The text of a request that can become prompt tokens, as one piece of bytes for each part, for estimates of its tokens.

It is the text whose bytes `prompt_text` counts: each string of the messages, names of fields among them, and what templates make of
tools, formats and arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from json.encoder import encode_basestring_ascii

import msgspec

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes.body import INDENT, Json, Slice
from preflight_proxy.core.shapes.parsed_request import parse_request
from preflight_proxy.core.shapes.prompt import SPOKEN
from preflight_proxy.core.shapes.prompt_text import PLAIN_KEYS, PromptText
from preflight_proxy.core.shapes.reading import Shape, elements_of
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import NEW_MESSAGE_COST, STEP_COST, Steps, apart, text_cost
from preflight_proxy.core.shapes.tools import read_tools

_OTHER_TEXT = re.compile(r"[^\x00-\x7f]+")
_EXPONENT, _ZEROS = re.compile(rb"[eE][+-]?[0-9]{1,3}(?![^\s,\]}])"), b"0" * 21
"""JavaScript writes 1e20 with all its zeros, up to 21 of them, and a template may write a float so."""
_plain = msgspec.json.Decoder(dict[str, str])


class _Texts(PromptText, gc=False):
    """Collects the strings that are counted."""

    texts: list[str] = msgspec.field(default_factory=list)

    def text(self, text: str) -> None:
        """Collect one string."""
        self.texts.append(text)

    def arguments(self, item: Json) -> None:
        """Collect arguments as a template may write them, which is longer than their text."""
        raw = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else bodies.encode(item)
        self.texts.append(indented(raw).decode("utf-8", "replace"))

    def joined(self) -> bytes:
        """Return all of it."""
        return "\n".join(self.texts).encode("utf-8", "replace")


def message_text(raw: bytes) -> bytes:
    """Return the text of one message, which was counted before.

    Raises:
        BadRequest: It cannot be read.
    """
    try:
        fields = _plain.decode(raw)
    except msgspec.DecodeError:
        fields = {}
    if fields and fields.keys() <= PLAIN_KEYS:
        return "\n".join([*fields, *fields.values()]).encode("utf-8", "replace")
    texts = _Texts()
    texts.part(bodies.value(raw))
    return texts.joined()


def fields_text(shape: Shape, request: Request) -> bytes:
    """Return the text that stands beside the messages: system text, tools, formats.

    Raises:
        BadRequest: It cannot be read.
    """
    raw = {name: bytes(value) for name, value in request.fields.items() if name != request.prompt_field}
    parsed, texts = parse_request(raw, "pass", known=shape.fields, rules=shape.rules), _Texts()
    shape.system(parsed, texts)
    for name in sorted({*parsed.unread, *(raw.keys() & SPOKEN)}):
        texts.plain(parsed.decoded(name))
    declared = [indented(raw[name]) for name in (*shape.tools, *shape.formats) if name in raw]
    return b"\n".join([texts.joined(), *declared])


def declared_tokens(shape: Shape, request: Request) -> int:
    """Return the most tokens of what the provider itself declares of tools: text that the request does not show.

    Raises:
        BadRequest: The tools cannot be read.
    """
    tools = [(request.fields[name], api) for name, api in shape.tools.items() if name in request.fields]
    return sum(read_tools(bytes(raw), PromptText(), api).declared_tokens for raw, api in tools)


def message_slices(shape: Shape, request: Request) -> Sequence[Slice]:
    """Return the slices of the messages, in the order of `Prompt.messages`."""
    return elements_of(shape, request.fields[request.prompt_field])


def indented(raw: bytes) -> bytes:
    """Return a JSON value as a template may write it: with indent 4, in ASCII. What is no JSON stays as it is."""
    try:
        text = msgspec.json.format(raw, indent=INDENT)
    except (msgspec.DecodeError, RecursionError):  # deep JSON was refused, so this is another text with many brackets
        text = raw
    text = _EXPONENT.sub(_ZEROS, text)
    if text.isascii():
        return text
    return _OTHER_TEXT.sub(lambda run: encode_basestring_ascii(run[0])[1:-1], text.decode("utf-8", "replace")).encode()


def text_after(shape: Shape, request: Request, count: int | None) -> Steps[bytes]:
    """Return the text of a request of messages without its first `count` messages; None: its whole text. With 0 no other field.

    Raises:
        BadRequest: It cannot be read.
    """
    texts = []
    if count is None:
        texts.append((yield from apart(partial(fields_text, shape, request), request.prompt.tool_bytes)))
    cost = 0
    for raw in message_slices(shape, request)[count or 0 :]:
        message = bytes(raw)
        cost += NEW_MESSAGE_COST + len(message)
        if cost > STEP_COST:
            yield None
            cost = NEW_MESSAGE_COST + len(message)
        texts.append((yield from apart(partial(message_text, message), text_cost(message))))
    return b"\n".join(texts)
