"""JSON with exact numbers: fractions are read as Decimal, and written with the Decimal's digits."""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal
from typing import Any, NoReturn

JsonObject = dict[str, Any]

# As JavaScript prints numbers; a client's 1e900000 must not become a megabyte.
_PLAIN_EXPONENTS = range(-6, 21)
# json cannot write raw numbers: a Decimal is written as a string with a secret prefix, and then loses prefix and quotes.
_MARK = f"decimal:{secrets.token_hex(8)}:"
_MARKED = re.compile(f'"{_MARK}([^"]*)"')


def dumps(value: object, *, indent: int | None = None) -> str:
    """Return compact JSON, or ASCII indented by `indent`; each Decimal is written exactly, as a number."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, default=_default, ensure_ascii=indent is not None, separators=separators, indent=indent)
    return _MARKED.sub(r"\1", text) if _MARK in text else text


def encode(value: object) -> bytes:
    """Return compact JSON in UTF-8. A lone surrogate becomes `?`."""
    return dumps(value).encode("utf-8", "replace")


def loads(raw: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value with every fraction as Decimal.

    Raises:
        ValueError: it is not JSON, not UTF-8, too deep, or holds NaN or Infinity.
    """
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def number(value: Decimal) -> str:
    """Return the exact value as JSON number text: plain from 1e-6 to 1e21, else in exponent form.

    Source: captures of openrouter.ai answers (`7.765e-06`), 2026.
    """
    if not value:
        return "0"
    if value.adjusted() not in _PLAIN_EXPONENTS:
        sign, digits, _ = value.as_tuple()
        text = "".join(map(str, digits)).rstrip("0")
        fraction = f".{text[1:]}" if text[1:] else ""
        return f"{'-' if sign else ''}{text[0]}{fraction}e{value.adjusted()}"
    return plain(value)


def plain(value: Decimal) -> str:
    """Return the exact value as plain decimal text without trailing zeros, such as `0.00159`."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _default(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{_MARK}{number(value)}"
    raise TypeError(f"not JSON: {type(value).__name__}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
