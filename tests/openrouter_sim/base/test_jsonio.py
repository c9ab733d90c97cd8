"""Numbers stay exact in both directions."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_sim.base.jsonio import dumps, encode, loads, number, plain
from tests.support.cases import each


@given(st.decimals(allow_nan=False, allow_infinity=False, places=15, min_value=-(10**9), max_value=10**9))
def test_a_decimal_survives_the_way_there_and_back(value: Decimal) -> None:
    assert Decimal(loads(dumps({"cost": value}))["cost"]) == value


def test_small_amounts_are_written_in_exponent_form_and_others_plainly() -> None:
    assert number(Decimal("0.000000160")) == "1.6e-7"
    assert number(Decimal("0.00159000")) == "0.00159"
    assert number(Decimal("-0.0000007765")) == "-7.765e-7"
    assert number(Decimal(0)) == "0"
    assert number(Decimal("1e900000")) == "1e900000"
    assert number(Decimal("1e20")) == "1" + "0" * 20
    assert plain(Decimal("1.60E-7")) == "0.00000016"
    assert plain(Decimal("1E+2")) == "100"


@each("text", ["NaN", "[Infinity]", "{", "[" * 100_000])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


def test_a_lone_surrogate_does_not_break_the_answer() -> None:
    assert encode({"a": "\ud800"}) == b'{"a":"?"}'


def test_only_json_can_be_written() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})
