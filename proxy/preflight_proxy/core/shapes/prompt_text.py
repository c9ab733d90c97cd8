"""Counts what can become prompt tokens: every string of the messages, wherever it stands (M3).

Nothing is searched in raw bytes. Keys of messages and parts are not counted (the template's wrapping is a constant), keys of
arguments are: a template may write those out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from preflight_proxy.core import body
from preflight_proxy.core.body import BadRequest, Json, Number
from preflight_proxy.core.json_size import indented_bytes
from preflight_proxy.core.shapes.parts import PARTS, Part
from preflight_proxy.core.shapes.shape import Message

DIGEST_BYTES = 16
NESTING_MAX = 64
"""Parts within parts; a tool result within a message needs four."""
_OPAQUE_KEYS = frozenset({"encrypted_content", "signature", "data", "thinking_signature", "thought_signature"})
_PART_KEYS = frozenset({"content", "output", "images"})
_JSON_KEYS = frozenset({"input", "arguments", "parameters", "action", "operation"})
_REMOTE = ("http://", "https://", "gs://", "s3://", "file")


@dataclass(slots=True)
class PromptText:
    """Running counts over the messages of one request. Not thread-safe; one per request."""

    ascii_bytes: int = 0
    other_bytes: int = 0
    opaque_bytes: int = 0
    wrap_count: int = 0
    image_count: int = 0
    media: bool = False
    audio: bool = False
    remote: bool = False
    cache_control: bool = False
    cache_1h: bool = False

    def message(self, raw: bytes) -> Message:
        """Count one message, given as its slice.

        Raises:
            BadRequest: It has a part that is refused, is nested too deeply, or is no JSON.
        """
        earlier = replace(self)
        self.media = False
        decoded = body.value(raw)
        self.part(decoded)
        counted = Message(
            digest=_digest(raw, decoded),
            ascii_bytes=self.ascii_bytes - earlier.ascii_bytes,
            other_bytes=self.other_bytes - earlier.other_bytes,
            opaque_bytes=self.opaque_bytes - earlier.opaque_bytes,
            wrap_count=self.wrap_count - earlier.wrap_count,
            media=self.media,
        )
        self.media = self.media or earlier.media
        return counted

    def part(self, decoded: Json, depth: int = 0) -> None:
        """Count a message, an item, or a part of one: a string, an object, or a list of them."""
        if depth > NESTING_MAX:
            raise BadRequest(f"Messages may be nested {NESTING_MAX} levels deep.")
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
        if depth > NESTING_MAX:
            raise BadRequest(f"Messages may be nested {NESTING_MAX} levels deep.")
        match decoded:
            case str():  # numbers are strings here
                self.text(decoded)
            case list():
                for item in decoded:
                    self.plain(item, depth + 1)
            case dict():
                for key, item in decoded.items():
                    self.text(key)
                    self._field(key, item, depth)

    def text(self, text: str) -> None:
        """Count one string by its UTF-8 bytes.

        Raises:
            BadRequest: It holds half of a surrogate pair, which no UTF-8 can carry.
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
            BadRequest: Its time to live is none whose price is known.

        Source: openrouter.ai/docs/guides/best-practices/prompt-caching, 2026-10: `ttl` is "5m" or "1h".
        """
        if mark is None:
            return
        ttl = mark.get("ttl") if isinstance(mark, dict) else mark
        if ttl not in (None, "5m", "1h"):
            raise BadRequest("cache_control.ttl must be 5m or 1h: only these have a price.")
        self.cache_control = True
        self.cache_1h = self.cache_1h or ttl == "1h"

    def _object(self, decoded: dict[str, Json], depth: int) -> None:
        self.wrap_count += 1
        kind = _kind(decoded)
        if kind is Part.MEDIA or kind is Part.AUDIO:
            self._media(decoded, kind)
            return
        for key, item in decoded.items():
            if key in _PART_KEYS and isinstance(item, (list, dict)):
                self.part(item, depth + 1)
            elif key == "source" and isinstance(item, dict):
                self._source(item, depth)
            else:
                self._field(key, item, depth)

    def _field(self, key: str, item: Json, depth: int) -> None:
        match key, item:
            case "cache_control", _:
                self.cache(item)
            case "type" | "role" | "status", str():
                return  # part of the wrapping
            case _, str() if key in _OPAQUE_KEYS:
                self.opaque_bytes += len(item)
                self.text(item)
            case _, str() if key in _JSON_KEYS and not isinstance(item, Number):
                self._arguments(item)
            case _, dict() | list() if key in _JSON_KEYS:
                self.ascii_bytes += indented_bytes(item)
            case "tool_calls", list():
                self.wrap_count += len(item)
                self.plain(item, depth + 1)
            case _:
                self.plain(item, depth + 1)

    def _arguments(self, text: str) -> None:
        """Arguments as text: the larger of what stands there and what a template makes of it."""
        before = self.ascii_bytes
        self.text(text)
        decoded = body.arguments(text)
        self.ascii_bytes = max(self.ascii_bytes, before + indented_bytes(decoded))

    def _media(self, decoded: dict[str, Json], kind: Part) -> None:
        self.media = True
        self.image_count += kind is Part.MEDIA
        self.audio = self.audio or kind is Part.AUDIO
        self.remote = self.remote or any(text.startswith(_REMOTE) for text in _strings(decoded))
        self.cache(decoded.get("cache_control"))

    def _source(self, source: dict[str, Json], depth: int) -> None:
        """A document's source: plain text counts; anything else has pages of unknown number."""
        if source.get("type") not in ("text", "content"):
            raise BadRequest(
                "Documents that are not plain text are refused: their pages have no bound on what they cost."
            )
        self.part(source.get("content"), depth + 1)
        self.plain(source.get("data"))


def _kind(decoded: Mapping[str, Json]) -> Part:
    name = decoded.get("type")
    if name is None:
        return Part.TEXT
    part = PARTS.get(name, Part.UNKNOWN) if isinstance(name, str) else Part.UNKNOWN
    if part is Part.UNKNOWN:
        raise BadRequest(f"Parts of type {str(name)[:40]!r} are refused: what they cost is not known.")
    if part is Part.REFUSED:
        raise BadRequest(f"Parts of type {str(name)[:40]!r} are refused: the request does not bound what they cost.")
    return part


def _strings(decoded: Json) -> Iterable[str]:
    match decoded:
        case str():
            yield decoded
        case dict():
            for item in decoded.values():
                yield from _strings(item)


def _digest(raw: bytes, decoded: Json) -> bytes:
    """The message's digest. Clients move cache marks along as a conversation grows, so these are no part of it."""
    if b"cache_control" in raw:
        raw = body.encode(_without_marks(decoded))
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()


def _without_marks(decoded: Json) -> Json:
    match decoded:
        case dict():
            return {key: _without_marks(item) for key, item in decoded.items() if key != "cache_control"}
        case list():
            return [_without_marks(item) for item in decoded]
    return decoded
