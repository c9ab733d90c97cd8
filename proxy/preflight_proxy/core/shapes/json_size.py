"""How long a JSON value becomes when a chat template writes it out again: indented by 4, ASCII only (M3).

A schema of 1.5 kB and depth 150 becomes 92 kB that way, so depth is bounded and the length is computed, not guessed.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii

from preflight_proxy.core.shapes.body import BadRequest, Json, Number

DEPTH_MAX = 64
"""Deeper schemas and arguments are no real ones; each level costs every line within it 4 bytes."""
INDENT = 4
NUMBER_BYTES = 25
"""A template may write a number as a float: repr needs at most 24 characters, whatever the request spelled."""


def indented_bytes(value: Json, depth: int = 0) -> int:
    """Length of `value` when written with indent 4 and all but ASCII escaped, `depth` levels inside another value.

    Raises:
        BadRequest: It is deeper than 64 levels.
    """
    if depth > DEPTH_MAX:
        raise BadRequest(f"Tools, formats and arguments may be nested {DEPTH_MAX} levels deep.")
    match value:
        case Number():
            return max(len(value), NUMBER_BYTES)
        case str():
            return len(encode_basestring_ascii(value))
        case dict():
            line = INDENT * (depth + 1) + 2  # the line's end and its comma
            sizes = (
                line + len(encode_basestring_ascii(key)) + 2 + indented_bytes(item, depth + 1)
                for key, item in value.items()
            )
            return sum(sizes) + INDENT * depth + 3
        case list():
            line = INDENT * (depth + 1) + 2
            return sum(line + indented_bytes(item, depth + 1) for item in value) + INDENT * depth + 3
    return 5  # true, false, null
