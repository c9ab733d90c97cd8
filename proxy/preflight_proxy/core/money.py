"""Money as integers: pico-USD from the texts that carry it, and back (M1, M2).

A JSON number counts only if it passes one gate. The gate is narrow because Python's number types are not: a short exponent
can stand for a billion digits, and a long integer can raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache

PUSD_PER_USD = 10**12
_PUSD_DIGITS = 12
TOKENS_PER_MTOK = 10**6
NUMBER_CHARS_MAX = 40
"""Longer than any real cost: float repr needs 24."""
EXPONENT_MIN, EXPONENT_MAX = -18, 6
"""Written exponents outside this range are no price and no count."""
COST_USD_MAX = 10_000
"""A single call that claims to cost more is not believed; nor is a price per token above it."""
LIMIT_USD_MAX = 1_000_000
"""The largest limit of an account: far above any budget. SQLite's 64 bits hold nine times as much in pico-USD."""

_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_LIMIT = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")
_EXACT = Context(prec=120)  # no result of a gated number is longer, so nothing is rounded unasked


def number(raw: bytes) -> Decimal | None:
    """Read one JSON number.

    Args:
        raw: The slice of the document that holds the value, without white space around it.

    Returns:
        The exact value; None if the slice is no JSON number, is longer than 40 characters, or has a written exponent
        outside -18..6. Strings are no numbers. Never raises.
    """
    if len(raw) > NUMBER_CHARS_MAX:
        return None
    match = _NUMBER.fullmatch(raw)
    if match is None:
        return None
    exponent = match[4]
    if exponent is not None and not EXPONENT_MIN <= int(exponent) <= EXPONENT_MAX:
        return None
    return Decimal(raw.decode("ascii"))


def cost_pusd(raw: bytes) -> int | None:
    """Read a cost in USD that upstream told.

    Returns:
        Pico-USD, half-even at 1e-12 USD; None, which means missing and not zero, if it is no number between 0 and 10,000.
    """
    match = _NUMBER.fullmatch(raw) if len(raw) <= NUMBER_CHARS_MAX else None
    if match is None:
        return None
    minus, whole, decimals, power = match.groups(b"")
    digits, exponent = int(whole + decimals), int(power or 0)
    if (minus and digits) or not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        return None
    shift = exponent - len(decimals) + _PUSD_DIGITS
    unit: int = 10**-shift if shift < 0 else 1
    amount: int = digits * 10**shift if shift > 0 else digits  # pico-USD times the unit, exact
    if amount > COST_USD_MAX * PUSD_PER_USD * unit:
        return None
    pusd = amount // unit
    return pusd + (2 * (amount % unit) + pusd % 2 > unit)  # up above a half, and at a half if it is odd


def price_pusd_per_mtok(text: str) -> int | None:
    """Read a price string: USD per token (or per request, per image).

    Returns:
        Pico-USD per million units, rounded up; None if there is no price: absent, empty, "-1" (variable) or unreadable.

    Source: openrouter.ai/docs/guides/overview/models, 2026-10: prices are decimal strings; "-1" marks a router.
    """
    usd = number(text.encode("utf-8", "replace"))
    if usd is None or not 0 <= usd <= COST_USD_MAX:
        return None
    return int(_EXACT.scaleb(usd, 18).to_integral_value(ROUND_CEILING))


def charge_pusd(tokens: int, price: int) -> int:
    """The price of `tokens` at `price` pico-USD per million tokens, rounded up."""
    return -(-tokens * price // TOKENS_PER_MTOK)


def _usd_text(pusd: int) -> str:
    if pusd < 0:
        return f"-{_usd_text(-pusd)}"
    whole, rest = pusd // PUSD_PER_USD, pusd % PUSD_PER_USD
    return f"{whole}.{rest:012d}".rstrip("0") if rest else f"{whole}"


usd_text: Callable[[int], str] = lru_cache(64)(_usd_text)
"""Returns exact decimal dollars, without exponent and without trailing zeros: "0", "0.00159", "-0.1".

Limits, reservations and costs come again in headers and cost lines, so a few texts are remembered.
"""


def token_price_text(price: int) -> str:
    """Return a price in pico-USD per million tokens as exact decimal dollars per token: "0.00000025"."""
    text = f"{price:019d}"
    return f"{text[:-18]}.{text[-18:]}".rstrip("0").rstrip(".")


def limit_pusd(text: str) -> int:
    """Read a limit as `exact_pusd` does.

    Raises:
        ValueError: As there; or it is more than `LIMIT_USD_MAX`.
    """
    pusd = exact_pusd(text)
    if pusd > LIMIT_USD_MAX * PUSD_PER_USD:
        raise ValueError(f"{text!r} is more than the largest limit, {LIMIT_USD_MAX} dollars")
    return pusd


def exact_pusd(text: str) -> int:
    """Read a plain dollar figure, such as "1.00"; returns pico-USD, 0 or more, exactly what was written.

    Raises:
        ValueError: It is no plain figure, or finer than a pico-dollar; the text says which.
    """
    figure = text.strip()
    if _LIMIT.fullmatch(figure) is None:
        raise ValueError(f"{text!r} is no amount in dollars; write a plain figure such as 1.00")
    pusd = _EXACT.scaleb(Decimal(figure), 12)
    if pusd != pusd.to_integral_value():
        raise ValueError(f"{text!r} is finer than a pico-dollar (12 decimals)")
    return int(pusd)
