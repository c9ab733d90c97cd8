"""Converts dollars as people write them to whole pico-USD, in which money is counted, and back."""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD

Dollars = int | float | Decimal | str
"""An amount in a script: `2`, `0.05`, `Decimal("0.05")`, `"$2"`."""
PUSD_MAX = 2**63 - 1
"""The largest amount in the ledger. Larger and infinite ones are read as this."""
FORM = f"dollars above 0 and at most {LIMIT_USD_MAX}, such as 0.25"
"""How an amount is written, for errors."""

_PICO = Decimal(1).scaleb(12)
_WRITTEN = re.compile(r"\$?([0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})", re.ASCII)


def read_usd(value: object) -> Decimal:
    """Return an amount that a person wrote: `2`, `"$2"`, `2.00` or `"0.05"`, as a number or a text.

    A float counts as its shortest decimal text, rounded to a pico-dollar: 0.1 is a tenth, exactly.

    Raises:
        ValueError: It is no amount, is not above 0, is more than a million, or is a text finer than a pico-dollar.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(FORM)
    written = _WRITTEN.fullmatch(value.strip() if isinstance(value, str) else _plain(Decimal(str(value))))
    if written is None:
        raise ValueError(FORM)
    amount = Decimal(written[1])
    exact = (amount * PUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN) / PUSD_PER_USD
    if not 0 < exact <= LIMIT_USD_MAX or (exact != amount and isinstance(value, str)):
        raise ValueError(FORM)
    return amount if exact == amount else exact


def _plain(number: Decimal) -> str:
    """Return a number without exponent; "" if it is far from any amount."""
    return format(number, "f") if number.is_finite() and -30 < number.adjusted() < 12 else ""


def float_usd(value: object, name: str) -> float:
    """Return dollars as a float: a number as it is, a text or a Decimal as `read_usd` reads it.

    Raises:
        ConfigError: It is no amount.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return float(read_usd(value))
    except ValueError as exc:
        raise ConfigError(f"{name} is {exc}, not {str(value)[:40]!r}.") from None


def pusd(amount_usd: float | Decimal | str) -> int:
    """Return dollars as whole pico-USD, read as the shortest decimal text of the number: 0.1 is a tenth, exactly.

    Never raises for a number: NaN is 0, and an amount beyond the ledger's range is the end of that range.
    """
    amount = Decimal(str(amount_usd))
    if amount.is_nan():
        return 0
    if abs(amount) * _PICO > PUSD_MAX:
        return PUSD_MAX if amount > 0 else -PUSD_MAX
    return int((amount * _PICO).to_integral_value(ROUND_HALF_EVEN))


def read_amounts(texts: Iterable[str], example: str) -> list[tuple[str, int]]:
    """Return the names and the amounts, in pico-USD, of arguments such as `alice=5` and `alice=$0.50`.

    Raises:
        ValueError: An argument is not of this form, or its amount is not above $0.
    """
    amounts: list[tuple[str, int]] = []
    for text in texts:
        name, _, amount = text.rpartition("=")
        if not name:
            raise ValueError(f"give {example}, not {text!r}")
        try:
            amounts.append((name, pusd(read_usd(amount))))
        except ValueError as exc:
            raise ValueError(f"the amount of {name!r} is {exc}, not {amount[:80]!r}") from exc
    return amounts


def usd(amount_pusd: int) -> Decimal:
    """Return pico-USD as exact dollars."""
    return Decimal(amount_pusd).scaleb(-12).normalize()


def exact(amount_pusd: int) -> str:
    """Return pico-USD as exact decimal text in dollars, `0.000000000001`: as files and machines get it."""
    return format(usd(amount_pusd), "f")


def cents_up(amount_pusd: int) -> str:
    """Return an amount in dollars, rounded up to whole cents, such as `0.02`."""
    cents = -(-amount_pusd // (PUSD_PER_USD // 100))
    return f"{cents // 100}.{cents % 100:02d}"


def dollars(amount_pusd: int, decimals_min: int = 2) -> str:
    """Return an amount as people read it, `$0.25` or `$0.005`: exact, with as many decimals as that needs."""
    amount = usd(amount_pusd)
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int), "whole numbers are finite"
    return f"{'-' if amount < 0 else ''}${abs(amount):.{max(-exponent, decimals_min)}f}"
