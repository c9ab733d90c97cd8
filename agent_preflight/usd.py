"""Dollars as people write them, to the integers that money is counted in, and back."""

from decimal import ROUND_HALF_EVEN, Decimal

PUSD_MAX = 2**63 - 1
"""What the ledger's integers hold; infinite and absurd amounts read as this."""

_PICO = Decimal(1).scaleb(12)


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


def dollars(amount_pusd: int, decimals_min: int = 2) -> str:
    """Return an amount as people read it, `$0.25` or `$0.005`: exact, with as many decimals as that needs."""
    amount = usd(amount_pusd)
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int), "whole numbers are finite"
    return f"{'-' if amount < 0 else ''}${abs(amount):.{max(-exponent, decimals_min)}f}"
