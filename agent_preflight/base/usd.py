"""Dollars as people write them, to the integers that money is counted in, and back."""

import re
from decimal import ROUND_HALF_EVEN, Decimal

from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD

Dollars = int | float | Decimal | str
"""What scripts give: `2`, `0.05`, `Decimal("0.05")`, `"$2"`."""
PUSD_MAX = 2**63 - 1
"""What the ledger's integers hold; infinite and absurd amounts read as this."""
FORM = f"dollars above 0 and at most {LIMIT_USD_MAX}, such as 0.25"
"""How an amount is written, for errors."""

_PICO = Decimal(1).scaleb(12)
_WRITTEN = re.compile(r"\$?([0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})", re.ASCII)


def read_usd(given: object) -> Decimal:
    """Return an amount that a person gave: `2`, `"$2"`, `2.00` or `"0.05"`, as a number or a text.

    A float counts as its shortest decimal text, rounded to a pico-dollar: 0.1 is a tenth, exactly.

    Raises:
        ValueError: It is no amount, is not above 0, is more than a million, or is a text finer than a pico-dollar.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float | Decimal):
        raise ValueError(FORM)
    found = _WRITTEN.fullmatch(given.strip() if isinstance(given, str) else _plain(Decimal(str(given))))
    if found is None:
        raise ValueError(FORM)
    amount = Decimal(found[1])
    exact = (amount * PUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN) / PUSD_PER_USD
    if not 0 < exact <= LIMIT_USD_MAX or (exact != amount and isinstance(given, str)):
        raise ValueError(FORM)
    return amount if exact == amount else exact


def _plain(number: Decimal) -> str:
    """Return a number without exponent; what is far from any amount reads as none."""
    return format(number, "f") if number.is_finite() and -30 < number.adjusted() < 12 else ""


def float_usd(given: object, name: str) -> float:
    """Return dollars for what counts in floats: a number as it is, a text or a Decimal as `read_usd` reads it.

    Raises:
        ConfigError: It is no amount.
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    try:
        return float(read_usd(given))
    except ValueError as exc:
        raise ConfigError(f"{name} is {exc}, not {str(given)[:40]!r}.") from None


def pusd(amount_usd: float | Decimal | str) -> int:
    """Return dollars as whole pico-USD, read as the shortest decimal text of the number: 0.1 is a tenth, exactly.

    Never raises for a number: NaN is nothing, amounts beyond the ledger's range are its end.
    """
    amount = Decimal(str(amount_usd))
    if amount.is_nan():
        return 0
    if abs(amount) * _PICO > PUSD_MAX:
        return PUSD_MAX if amount > 0 else -PUSD_MAX
    return int((amount * _PICO).to_integral_value(ROUND_HALF_EVEN))


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
