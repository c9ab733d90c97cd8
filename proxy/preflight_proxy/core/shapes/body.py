"""Reads a request body as raw slices, and checks it before anything in it is used.

Unchanged values are sent byte for byte, so the top level is cut into slices. What decides a price is decoded. An object with the
same key twice is refused: it could mean one thing here and another upstream (M8 (unbounded prices)).
"""

from __future__ import annotations

import codecs
import json
import re
from decimal import Decimal
from functools import partial
from json.encoder import encode_basestring_ascii
from typing import TypeAlias

import msgspec

from preflight_proxy.core.money import number
from preflight_proxy.core.shapes.steps import Steps, run_steps

Slice: TypeAlias = "bytes | msgspec.Raw"
"""The bytes of one value as they came; a `Raw` is a view of the body."""
Json: TypeAlias = "dict[str, Json] | list[Json] | str | Number | bool | None"

VALUES_MAX = 50_000
"""Values in a body. Walking so many takes up to a second; real requests have 20,000."""
TOKEN_IDS_MAX = 500_000
"""Values in a body whose prompt may be arrays of tokens: these are not walked one by one."""
_CERTAINLY_FEW = 1000
_ERROR_PLACE = re.compile(r"\(byte (\d+)\)")
_HALF = re.compile(rb"\\u[dD](?:(?P<first>[89abAB])|[c-fC-F])[0-9a-fA-F]{2}")
_ESCAPE_BYTES = 6
_WINDOW_BYTES = 128 * 1024
_UTF8_WINDOW_BYTES = 2**20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_WHITE_SPACE = " \t\n\r"
BODY_NESTING_MAX = 160
"""Levels of a value; tools and messages have narrower bounds of their own."""

DEPTH_MAX = 64
"""Deeper schemas and arguments are no real ones; each level costs every line within it 4 bytes."""
INDENT = 4
NUMBER_BYTES = 25
"""A template may write a number as a float: repr needs at most 24 characters, whatever the request spelled."""

_top_level: msgspec.json.Decoder[dict[str, Slice]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = frozenset({str})
_string = msgspec.json.Encoder().encode


class BadRequest(ValueError):  # noqa: N818 (it is named after the answer that it becomes)
    """A request that is answered with an error; nothing was sent upstream.

    Attributes:
        status: HTTP status.
        code: The `error_type` in the answer.
        message: What is wrong, for a person.
    """

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


class Number(str):
    """A JSON number as its text. `money.number` reads its value (M2 (JSON numbers)), not a float."""

    __slots__ = ()

    def decimal(self) -> Decimal | None:
        """Return its value; None if `money.number` refuses it."""
        return number(self.encode())


def top_level(body: bytes) -> dict[str, bytes]:
    """Check the encoding and `cut`, at once."""
    run_steps(check_utf8(body))
    return {name: bytes(raw) for name, raw in cut(body).items()}


def cut(body: bytes) -> dict[str, Slice]:
    """Return the slices of a JSON object by key, in order; of a key that comes twice the last. Its encoding is not checked.

    Raises:
        BadRequest: The body is no JSON object, is nested too deeply, or has half of a surrogate pair. Half a pair is not
            repaired: upstream could read other text than the proxy.
    """
    try:
        return _top_level.decode(body)
    except msgspec.DecodeError as exc:
        place = _place_of_half(body, str(exc))
        raise BadRequest("The request body is not a JSON object.") if place is None else _half_pair(place) from exc
    except RecursionError as exc:
        raise BadRequest("The request body is nested too deeply.") from exc


def check_utf8(body: bytes) -> Steps[None]:
    """Check that a body is UTF-8, in windows, so that no text of the whole body is made.

    Raises:
        BadRequest: It is not, or has half of a surrogate pair.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _UTF8_WINDOW_BYTES):
        window = body[start : start + _UTF8_WINDOW_BYTES]
        try:
            decoder.decode(window, final=start + len(window) == len(body))
        except UnicodeDecodeError as exc:
            place = start + len(window) - len(exc.object) + exc.start
            is_half = body[place + 1 : place + 2] >= b"\xa0" and body[place] == 0xED
            raise (
                _half_pair(place) if is_half else BadRequest(f"The request body is not UTF-8 at byte {place}.")
            ) from exc
        if start + len(window) < len(body):
            yield None


def _half_pair(place: int) -> BadRequest:
    return BadRequest(
        f"The request has half of a surrogate pair at byte {place}: a text was cut within a character. "
        "Send the whole character, or leave it out."
    )


def _place_of_half(body: bytes, error: str) -> int | None:
    """Where half of a surrogate pair begins, by the decoder's error; None if something else is wrong.

    The error names the byte after the escapes that it read, or says that the text ended within them. Only these are looked at,
    because the body may be long.
    """
    place_text = _ERROR_PLACE.search(error)
    end = int(place_text[1]) if place_text else len(body)
    for place in range(max(0, end - 2 * _ESCAPE_BYTES), end):
        half = _HALF.match(body, place)
        if half is None or not _begins_escape(body, place):
            continue
        before = max(0, place - _ESCAPE_BYTES)
        other = _HALF.match(body, place + _ESCAPE_BYTES) if half["first"] else _HALF.match(body, before)
        is_pair = other is not None and bool(other["first"]) is not bool(half["first"])
        if not is_pair or (not half["first"] and not _begins_escape(body, before)):
            return place
    return None


def _begins_escape(body: bytes, place: int) -> bool:
    """True if the backslash at `place` is not itself escaped."""
    before = body[max(0, place - 1000) : place]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def count_commas(raw: bytes, enough: int = VALUES_MAX) -> int:
    """Return the commas between values of a JSON text: about as many as it has values. Up to a thousand, other commas count too.

    The text is read in windows, so that no single step takes long, and only until there are more than `enough`.
    """
    commas = raw.count(b",")
    if commas <= _CERTAINLY_FEW:
        return commas
    commas, position, in_string = 0, 0, False
    while position < len(raw) and commas <= enough:
        window = raw[position : position + _WINDOW_BYTES]
        if (len(window) - len(window.rstrip(b"\\"))) % 2:
            window = raw[position : position + _WINDOW_BYTES + 1]  # an escape stays whole
        position += len(window)
        parts = (_ESCAPE.sub(b"", window) if b"\\" in window else window).split(b'"')
        commas += b"".join(parts[in_string::2]).count(b",")
        in_string ^= not len(parts) % 2
    return commas


def check_values(body: bytes, commas: int, values_max: int) -> Steps[None]:
    """Check the values of a body that has so many commas, within strings or between values.

    Raises:
        BadRequest: There are too many to be read.
    """
    if commas > values_max:
        check_count((yield partial(count_commas, body, values_max)), values_max)


def check_count(count: int, values_max: int = VALUES_MAX) -> None:
    """Check a number of values.

    Raises:
        BadRequest: There are too many to be read.
    """
    if count > values_max:
        raise BadRequest("The request has too many values.", 413, "payload_too_large")


def elements(raw: Slice) -> list[msgspec.Raw]:
    """The slices of a JSON array.

    Raises:
        BadRequest: It is no array.
    """
    try:
        return _elements.decode(raw)
    except msgspec.DecodeError as exc:
        raise BadRequest("An array is expected where the request has something else.") from exc


def value(raw: bytes) -> Json:
    """Decode one value; numbers stay text.

    Raises:
        BadRequest: It is no JSON, is nested too deeply, or holds a key twice.
    """
    try:
        text = raw.decode("utf-8").strip(_WHITE_SPACE)
        decoded: Json
        decoded, end = _decoder.raw_decode(text)
    except RecursionError as exc:
        raise BadRequest("The request body is nested too deeply.") from exc
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise BadRequest("The request body is not JSON.") from exc
    if end != len(text):
        raise BadRequest("The request body is not JSON.")
    if len(raw) > 2 * BODY_NESTING_MAX and raw.count(b"[") + raw.count(b"{") > BODY_NESTING_MAX:
        _check_depth(decoded)
    return decoded


def arguments(text: str) -> Json:
    """Decode the arguments of a tool call as leniently as a template does; None if they are no JSON.

    Of a key that comes twice every value is kept, under a longer name: which one a template takes is not known.

    Raises:
        BadRequest: They are nested too deeply.
    """
    try:
        decoded: Json = _lenient.decode(text)
    except RecursionError as exc:
        raise BadRequest("The arguments of a tool call are nested too deeply.") from exc
    except json.JSONDecodeError:
        return None
    return decoded


def encode(decoded: Json) -> bytes:
    """Write a value as it was read: numbers by their own text, no white space."""
    match decoded:
        case Number():
            return decoded.encode("utf-8")
        case dict() if _TEXT.issuperset(map(type, decoded.values())):
            return _string(decoded)
        case dict():
            return b"{" + b",".join([_string(key) + b":" + encode(item) for key, item in decoded.items()]) + b"}"
        case list():
            return b"[" + b",".join([encode(item) for item in decoded]) + b"]"
    return _string(decoded)


def indented_bytes(decoded: Json, depth: int = 0) -> int:
    """Length of a value when a chat template writes it with indent 4 in ASCII (M3 (prompt bound)).

    A schema of 1.5 kB and depth 150 becomes 92 kB that way, so the depth is limited and the length is computed.

    Raises:
        BadRequest: It is deeper than 64 levels.
    """
    if depth > DEPTH_MAX:
        raise BadRequest(f"Tools, formats and arguments may be nested {DEPTH_MAX} levels deep.")
    match decoded:
        case Number():
            return max(len(decoded), NUMBER_BYTES)
        case str():
            return len(encode_basestring_ascii(decoded))
        case dict():
            line = INDENT * (depth + 1) + 2  # the line's end and its comma
            sizes = (
                line + len(encode_basestring_ascii(key)) + 2 + indented_bytes(item, depth + 1)
                for key, item in decoded.items()
            )
            return sum(sizes) + INDENT * depth + 3
        case list():
            line = INDENT * (depth + 1) + 2
            return sum(line + indented_bytes(item, depth + 1) for item in decoded) + INDENT * depth + 3
    return 5  # true, false, null


def _check_depth(decoded: Json) -> None:
    """Refuse a value that is too deep for a recursive reader. This check goes level by level, without recursion."""
    level: list[Json] = [decoded]
    for _ in range(BODY_NESTING_MAX + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return
        level = [item for outer in containers for item in (outer.values() if isinstance(outer, dict) else outer)]
    raise BadRequest("The request body is nested too deeply.")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise BadRequest("An object in the request has the same key twice.")
    return decoded


def _every(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    decoded = dict(pairs)
    if len(decoded) == len(pairs):
        return decoded
    return {f"{index}{key}": item for index, (key, item) in enumerate(pairs)}


def _number(text: str) -> Json:
    return Number(text)


def _constant(name: str) -> Json:
    raise BadRequest(f"{name} is not a JSON number.")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_int=_number, parse_constant=_constant)
"""Long values are decoded in a thread: a hook in Python lets other threads go on between two numbers."""
_lenient = json.JSONDecoder(object_pairs_hook=_every, parse_float=Number, parse_int=Number, parse_constant=Number)
