"""Dollars to integers and back."""

from decimal import Decimal

from agent_preflight.usd import PUSD_MAX, dollars, pusd, usd
from tests.cases import each


@each(
    "amount, expected",
    [(0.1, 10**11), (0.3, 3 * 10**11), (Decimal("1e-12"), 1), ("0.25", 25 * 10**10), (1, 10**12), (-0.5, -5 * 10**11)],
)
def test_an_amount_is_what_its_text_says(amount: float | Decimal | str, expected: int) -> None:
    assert pusd(amount) == expected


def test_numbers_that_are_no_amount_do_not_raise() -> None:
    assert pusd(float("nan")) == 0
    assert pusd(float("inf")) == PUSD_MAX
    assert pusd(float("-inf")) == -PUSD_MAX
    assert pusd(1e300) == PUSD_MAX


def test_the_way_back_is_exact() -> None:
    assert usd(25 * 10**10) == Decimal("0.25")
    assert usd(1) == Decimal("1e-12")


@each("amount, text", [("0.25", "$0.25"), ("0.005", "$0.005"), ("1", "$1.00"), ("100", "$100.00"), ("0", "$0.00")])
def test_people_read_an_amount_that_is_not_rounded(amount: str, text: str) -> None:
    assert dollars(pusd(amount)) == text


def test_a_column_of_amounts_may_have_more_decimals() -> None:
    assert dollars(pusd("0.25"), 4) == "$0.2500"
    assert dollars(pusd("0.00005"), 4) == "$0.00005"
