"""Counts what can become prompt tokens: every string of the messages, wherever it is (M3 (prompt bound)).

Names of fields count too: a template may write out a part that it does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import BadRequest, Json, indented_bytes
from preflight_proxy.core.shapes.content_parts import Part, costs_more_than_its_text, part_of
from preflight_proxy.core.shapes.memo import DIGEST_BYTES, digest16
from preflight_proxy.core.shapes.shape import Message

PART_NESTING_MAX = 64
"""Parts within parts; a tool result within a message needs four."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""The roles of messages, in all shapes."""

_PART_KEYS = frozenset({"content", "output"})
_TEXT_KEYS = frozenset({"role", "content", "type", "text", "name", "id", "tool_call_id"})
"""Fields of a part that count as nothing but text if they are strings."""
_TYPELESS_OUTPUT = ("shell_call_output",)
"""Items whose output is a list of objects without a type."""
_OPAQUE_KEYS = frozenset({"encrypted_content", "signature", "data", "thinking_signature", "thought_signature"})
_JSON_KEYS = frozenset({"input", "arguments", "parameters", "action", "operation", "tools"})
_PREAMBLE_ROLES = frozenset({"system", "developer", "user"})
_ANSWER_KEYS = frozenset({"reasoning", "reasoning_content", "reasoning_details", "tool_calls"})
PLAIN_KEYS = frozenset({"role", "content", "name", "tool_call_id"})
_plain = msgspec.json.Decoder(dict[str, str])
_write = msgspec.json.Encoder().encode
_REMOTE = ("http://", "https://", "gs://", "s3://", "file")


class PromptText(msgspec.Struct, gc=False):
    """Running counts over the messages of one request."""

    ascii_bytes: int = 0
    other_bytes: int = 0
    opaque_bytes: int = 0
    value_count: int = 0
    wrap_count: int = 0
    image_count: int = 0
    media: bool = False
    remote: bool = False
    cache_control: bool = False
    cache_1h: bool = False

    def add_messages(self, messages: Sequence[Message], roles: frozenset[str]) -> None:
        """Add the counts of messages.

        Raises:
            BadRequest: One has a role that is not in `roles`, or they have too many values. A message without a role passes.
        """
        ascii_bytes = other_bytes = wrap_count = 0
        for message in messages:
            ascii_bytes += message.ascii_bytes
            other_bytes += message.other_bytes
            wrap_count += message.wrap_count
            if message.more is not None:
                self.add(message.more)
            if message.role and message.role not in roles:
                known = ", ".join(sorted(roles))
                raise BadRequest(f"The role {message.role!r} is refused: this API knows {known}.")
        self.ascii_bytes += ascii_bytes
        self.other_bytes += other_bytes
        self.wrap_count += wrap_count

    def add(self, other: PromptText) -> None:
        """Add the counts of a part that was counted separately."""
        self.ascii_bytes += other.ascii_bytes
        self.other_bytes += other.other_bytes
        self.opaque_bytes += other.opaque_bytes
        self.value_count += other.value_count
        body.check_count(self.value_count)
        self.wrap_count += other.wrap_count
        self.image_count += other.image_count
        self.media |= other.media
        self.remote |= other.remote
        self.cache_control |= other.cache_control
        self.cache_1h |= other.cache_1h

    def part(self, decoded: Json, depth: int = 0) -> None:
        """Count a message, an item, or a part of one: a string, an object, or a list of them."""
        if depth > PART_NESTING_MAX:
            raise BadRequest(f"Messages may be nested {PART_NESTING_MAX} levels deep.")
        match decoded:
            case list():
                for item in decoded:
                    self.part(item, depth + 1)
            case dict():
                self._object(decoded, depth)
            case _:
                self.wrap_count += 1
                self.plain(decoded)

    def plain(self, decoded: Json, depth: int = 0) -> None:
        """Count every string and number in a value, keys too, whatever it is."""
        if depth > PART_NESTING_MAX:
            raise BadRequest(f"Messages may be nested {PART_NESTING_MAX} levels deep.")
        match decoded:
            case str():  # numbers are strings here
                self.text(decoded)
            case list():
                for item in decoded:
                    self.plain(item, depth + 1)
            case dict() if costs_more_than_its_text(decoded):
                self._object(decoded, depth + 1)
            case dict():
                for key, item in decoded.items():
                    self.text(key)
                    self._field(key, item, depth)

    def text(self, text: str) -> None:
        """Count one string by its UTF-8 bytes.

        Raises:
            BadRequest: It has half of a surrogate pair, which UTF-8 cannot encode.
        """
        if text.isascii():
            self.ascii_bytes += len(text)
            return
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError as exc:
            raise BadRequest("The request has text that is not Unicode.") from exc
        plain = len(text.encode("ascii", "ignore"))
        self.ascii_bytes += plain
        self.other_bytes += size - plain

    def cache(self, mark: Json) -> None:
        """Note a `cache_control` mark.

        Raises:
            BadRequest: Its time to live has no known price.

        Source: openrouter.ai/docs/guides/best-practices/prompt-caching, 2026-10: `ttl` is "5m" or "1h".
        """
        if mark is None:
            return
        self.plain(mark)
        ttl = mark.get("ttl") if isinstance(mark, dict) else mark
        if ttl not in (None, "5m", "1h"):
            raise BadRequest("cache_control.ttl must be 5m or 1h: only these have a price.")
        self.cache_control = True
        self.cache_1h |= ttl == "1h"

    def _object(self, decoded: dict[str, Json], depth: int) -> None:
        self.wrap_count += 1
        kind, name = part_of(decoded, inside=depth > 0), decoded.get("type")
        if kind is not Part.TEXT:
            self._media(decoded, kind)
            return
        if name == "document":
            self._source(decoded.get("source"), depth)
        for key, item in decoded.items():
            if key in _TEXT_KEYS and type(item) is str:
                self.text(key + item)
                continue
            self.text(key)
            if key in _PART_KEYS and isinstance(item, (list, dict)) and name not in _TYPELESS_OUTPUT:
                self.part(item, depth + 1)
            elif key == "images":
                self._images(item, depth)
            elif key == "source" and (name != "search_result" or not isinstance(item, str)):
                if name != "document" and item is not None:
                    self._source(item, depth)
            else:
                self._field(key, item, depth)

    def _field(self, key: str, item: Json, depth: int) -> None:
        if key == "cache_control":
            self.cache(item)
        elif key in _JSON_KEYS:
            self.arguments(item)
        elif key == "audio" and item not in (None, False, ""):
            raise BadRequest("An earlier answer in audio is refused: the request does not bound what it costs again.")
        else:
            if key in _OPAQUE_KEYS and isinstance(item, str):
                self.opaque_bytes += len(item)
            if key == "tool_calls" and isinstance(item, list):
                self.wrap_count += len(item)
            self.plain(item, depth + 1)

    def arguments(self, item: Json) -> None:
        """Count arguments: the larger of their text and what a template makes of it."""
        before = self.ascii_bytes
        decoded = item
        if isinstance(item, str):
            self.text(item)
            self.value_count += body.count_commas(item.encode("utf-8"))
            body.check_count(self.value_count)
            decoded = body.arguments(item)
        self.ascii_bytes = max(self.ascii_bytes, before + indented_bytes(decoded))

    def _media(self, decoded: dict[str, Json], kind: Part) -> None:
        self.media = True
        self.image_count += kind is Part.MEDIA
        self.remote |= _is_remote(decoded)
        self.cache(decoded.get("cache_control"))

    def _images(self, images: Json, depth: int) -> None:
        """Count images next to the content: parts, or addresses."""
        for image in images if isinstance(images, list) else [images]:
            if isinstance(image, str) and image:
                self._media({"url": image}, Part.MEDIA)
            else:
                self.part(image, depth + 1)

    def _source(self, source: Json, depth: int) -> None:
        """Count a document's source if it is plain text. Anything else has an unknown number of pages."""
        if not isinstance(source, dict) or source.get("type") not in ("text", "content"):
            raise BadRequest(
                "Documents that are not plain text are refused: their pages have no bound on what they cost. "
                "Send a source that is an object of type text or content."
            )
        for key, item in source.items():
            self.text(key)
            if key == "content":
                self.part(item, depth + 1)
            else:
                self.plain(item, depth + 1)


def count_plain(raw: bytes, key: bytes) -> Message | None:
    """Count one message that has nothing but a role and texts, as most have; None for any other, which `count_message` counts.

    A key that comes twice would be missing in what is written again, so such a message is not plain.

    Args:
        raw: Its slice.
        key: The SHA-256 of that.
    """
    try:
        fields = _plain.decode(raw)
    except msgspec.DecodeError:
        return None
    if fields.get("role") not in ROLES or not fields.keys() <= PLAIN_KEYS:
        return None
    canonical = _write(fields)
    if canonical != raw:
        if canonical != msgspec.json.format(raw, indent=-1):
            return None
        key = hashlib.sha256(canonical).digest()
    text = PromptText()
    text.text("".join([*fields, *fields.values()]))
    return Message(
        digest=key[:DIGEST_BYTES],
        ascii_bytes=text.ascii_bytes,
        other_bytes=text.other_bytes,
        is_preamble=fields["role"] in _PREAMBLE_ROLES,
        role=fields["role"],
        comma_count=len(fields),
    )


def count_message(raw: bytes, key: bytes) -> Message:
    """Count one message.

    Args:
        raw: Its slice.
        key: The SHA-256 of that.

    Raises:
        BadRequest: It has a role that no API knows, has a part that is refused, is nested too deeply, or is no JSON.
    """
    text = PromptText()
    decoded = body.value(raw)
    text.part(decoded)
    canonical = body.encode(_canonical(decoded))
    role, is_preamble = _speaker(decoded)
    ascii_bytes, other_bytes, wrap_count = text.ascii_bytes, text.other_bytes, text.wrap_count
    text.ascii_bytes = text.other_bytes = text.wrap_count = 0
    return Message(
        digest=key[:DIGEST_BYTES] if canonical == raw else digest16(canonical),
        ascii_bytes=ascii_bytes,
        other_bytes=other_bytes,
        opaque_bytes=text.opaque_bytes,
        wrap_count=wrap_count,
        media=text.media,
        is_preamble=is_preamble and not text.media and not text.opaque_bytes,
        role=role,
        comma_count=raw.count(b","),
        more=None if text == _NOTHING else text,
    )


def _speaker(decoded: Json) -> tuple[str, bool]:
    """The role of a message, and True if it is one of the system or the user.

    Not so for an earlier answer, of which a template may leave out the reasoning.
    """
    if not isinstance(decoded, dict) or (role := decoded.get("role")) is None:
        return "", False
    if not isinstance(role, str) or role not in ROLES:
        raise BadRequest(f"The role {str(role)[:40]!r} is refused: no API knows it.")
    is_message = role in _PREAMBLE_ROLES and decoded.get("type", "message") == "message"
    return role, is_message and _ANSWER_KEYS.isdisjoint(decoded)


_NOTHING = PromptText()


def _is_remote(decoded: Json) -> bool:
    match decoded:
        case str():
            return decoded.strip().lower().startswith(_REMOTE)
        case dict():
            return any(_is_remote(item) for item in decoded.values())
        case list():
            return any(_is_remote(item) for item in decoded)
    return False


def _canonical(part: Json) -> Json:
    """The message without what clients change as a conversation grows: cache marks, and the one-part list that carries them.

    Both are looked for where marks stand, in messages and parts. Elsewhere they are text that the model reads, as in arguments.
    """
    match part:
        case {"type": "text", "text": str() as text, **more} if more.keys() <= {"cache_control"}:
            return text
        case dict() if part.get("type") not in _TYPELESS_OUTPUT:
            return {
                key: _canonical(item) if key in _PART_KEYS and type(item) is not str else item
                for key, item in part.items()
                if key != "cache_control"
            }
        case [{"type": "text", "text": str(), **more} as only] if more.keys() <= {"cache_control"}:
            return _canonical(only)
        case list():
            return [_canonical(item) for item in part]
    return part
