"""Money is exact, and what is no money is missing rather than zero."""

from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.money import (
    charge_pusd,
    cost_pusd,
    limit_pusd,
    number,
    price_pusd_per_mtok,
    token_price_text,
    usd_text,
)
from tests.support.cases import each

HOSTILE = [
    b"",
    b"null",
    b'"0.5"',
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e900000",
    b"1e7",
    b"1e-19",
    b"1e999",
    b"9" * 5000,
    b"0." + b"0" * 60 + b"1",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b" 1",
    b"1 ",
    b"1_000",
    b"0x10",
    "١".encode(),
    b"\xff",
    b"true",
    b"[1]",
    b"--1",
    b"1e",
]


@each("raw", HOSTILE)
def test_what_is_no_plain_number_is_missing(raw: bytes) -> None:
    assert number(raw) is None
    assert cost_pusd(raw) is None


@each(
    "raw, pusd",
    [
        (b"0", 0),
        (b"-0", 0),
        (b"0.00159", 1_590_000_000),
        (b"7.765e-06", 7_765_000),
        (b"1e-11", 10),
        (b"1E-12", 1),
        (b"0.025706000000000003", 25_706_000_000),
        (b"1.2345678901234567e-05", 12_345_679),
        (b"5e-13", 0),  # half to even
        (b"15e-13", 2),
        (b"10000", 10_000 * 10**12),
        (b"1e4", 10_000 * 10**12),
        (b"25e-13", 2),
        (b"0.0000000000035000000000000001", 4),
        (b"-0.00e-18", 0),
    ],
)
def test_a_cost_is_rounded_to_the_pico_dollar_half_to_even(raw: bytes, pusd: int) -> None:
    assert cost_pusd(raw) == pusd


_DIGITS = st.text("0123456789", min_size=1, max_size=22)
_WRITTEN = st.tuples(
    st.sampled_from(["", "-"]),
    st.one_of(st.just("0"), st.integers(1, 10_000).map(str), st.integers(0, 10**24).map(str)),
    st.one_of(st.just(""), _DIGITS.map(".{}".format), _DIGITS.map(".{}5".format)),
    st.one_of(st.just(""), st.integers(-20, 8).map("e{}".format)),
).map("".join)


@given(_WRITTEN)
def test_a_cost_is_the_rounded_decimal_that_was_written(text: str) -> None:
    usd = number(text.encode())
    if usd is None or not 0 <= usd <= 10_000:
        assert cost_pusd(text.encode()) is None
    else:
        pico_usd = usd.scaleb(12, Context(prec=120)).to_integral_value(ROUND_HALF_EVEN)
        assert cost_pusd(text.encode()) == int(pico_usd)


@each("raw", [b"-0.000001", b"10000.01", b"10000.0000000000001", b"1e6", b"-1"])
def test_a_cost_out_of_range_is_missing_and_not_zero(raw: bytes) -> None:
    assert number(raw) is not None
    assert cost_pusd(raw) is None


@each(
    "text, price",
    [
        ("0.000003", 3 * 10**12),
        ("0.0000000004", 4 * 10**8),
        ("4e-13", 400_000),
        ("0", 0),
        ("1e-18", 1),
        ("1.1e-18", 2),
        ("0.0000000000000000001", 1),
    ],
)
def test_a_price_is_rounded_up(text: str, price: int) -> None:
    assert price_pusd_per_mtok(text) == price


@each("text", ["", "-1", "free", "1e900000", "20000", "\ud800", "0.1 "])
def test_what_is_no_price_is_none(text: str) -> None:
    assert price_pusd_per_mtok(text) is None


@each("tokens, price, pusd", [(0, 5, 0), (1, 1, 1), (10**6, 7, 7), (3, 10**12, 3 * 10**6)])
def test_a_charge_is_rounded_up(tokens: int, price: int, pusd: int) -> None:
    assert charge_pusd(tokens, price) == pusd


@each(
    "pusd, text",
    [(0, "0"), (1_590_000_000, "0.00159"), (-(10**11), "-0.1"), (10**12, "1"), (1, "0.000000000001"), (10**14, "100")],
)
def test_dollars_are_written_exactly(pusd: int, text: str) -> None:
    assert usd_text(pusd) == text


@each(
    "price, text", [(0, "0"), (250 * 10**9, "0.00000025"), (1, "0.000000000000000001"), (10**18, "1"), (10**19, "10")]
)
def test_the_price_of_a_token_is_written_exactly(price: int, text: str) -> None:
    assert token_price_text(price) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_written_dollars_are_the_same_amount(pusd: int) -> None:
    assert Decimal(usd_text(pusd)) * 10**12 == pusd
    assert "E" not in usd_text(pusd)


@given(st.integers(0, 10_000 * 10**12))
def test_a_cost_written_as_exact_text_is_read_back(pusd: int) -> None:
    assert cost_pusd(usd_text(pusd).encode()) == pusd


@given(st.floats(0, 9999, allow_nan=False))
def test_a_cost_written_as_a_float_is_off_by_half_a_pico_dollar_at_most(usd: float) -> None:
    pusd = cost_pusd(repr(usd).encode())
    if pusd is not None:
        assert abs(Decimal(pusd) - Decimal(repr(usd)) * 10**12) <= Decimal("0.5")


@each("text, pusd", [("1.00", 10**12), (" .25 ", 25 * 10**10), ("0", 0), ("1000000", 10**18), ("3.", 3 * 10**12)])
def test_a_limit_is_read_exactly(text: str, pusd: int) -> None:
    assert limit_pusd(text) == pusd


@each(
    "text, why",
    [
        ("", "no amount"),
        ("$1", "no amount"),
        ("-1", "no amount"),
        ("1e3", "no amount"),
        ("nan", "no amount"),
        ("١", "no amount"),
        ("0.0000000000001", "finer"),
        ("1000000.01", "more than"),
    ],
)
def test_a_limit_that_cannot_be_kept_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        limit_pusd(text)
