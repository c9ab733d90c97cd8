"""Dollars to integers and back."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import typer

from agent_preflight.base.config import Environment
from agent_preflight.base.usd import PUSD_MAX, cents_up, dollars, exact, float_usd, pusd, read_amounts, read_usd, usd
from agent_preflight.budget import BudgetTracker
from agent_preflight.cli import run
from agent_preflight.eject import CompositeEject, ProgressEject
from agent_preflight.launch.config_policies import policy_factory
from agent_preflight.launch.proxy_command import amounts_of
from agent_preflight.options.config_file import parse_config
from agent_preflight.options.settings import read_option, read_settings
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD, limit_pusd
from tests.support.cases import each


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


@each(
    "given, amount",
    [
        *((given, "2") for given in (2, 2.0, "2", "$2", "2.00", " $2.00 ", Decimal(2))),
        *((given, "0.05") for given in (0.05, "0.05", "$.05", Decimal("0.05"), Decimal("5e-2"))),
        *((given, "1000000") for given in (10**6, 1e6, "$1000000")),
        *((given, "1e-12") for given in (1e-12, Decimal("1e-12"), "0.000000000001")),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_dollars_are_read_however_people_write_them(given: object, amount: str) -> None:
    assert read_usd(given) == Decimal(amount)


@each(
    "given",
    [
        *(
            "",
            "$",
            "two",
            "1,50",
            "-1",
            "$-1",
            "+1",
            "1$",
            "$$1",
            "1 000",
            "0",
            "0.00",
            "nan",
            "inf",
            "1e400",
            "1e3",
            "١",
        ),
        *("1000000.01", "0.0000000000001", "1.0000000000001", "0x10", "1_000", "1e-13", "1\n2"),
        *(0, -1, 0.0, float("nan"), float("inf"), 1e-13, 10**6 + 1, 1e300, Decimal("NaN"), Decimal("Infinity")),
        *(True, None, b"1", [1], {"a": 1}),
    ],
)
def test_what_is_no_amount_says_how_one_is_written(given: object) -> None:
    with pytest.raises(ValueError, match=r"dollars above 0 and at most 1000000, such as 0\.25"):
        read_usd(given)


def test_an_amount_keeps_the_decimals_that_it_was_written_with() -> None:
    assert format(read_usd("$1.00"), "f") == "1.00"


def test_the_largest_amount_is_the_ledgers_largest_limit() -> None:
    assert pusd(read_usd(LIMIT_USD_MAX)) == LIMIT_USD_MAX * PUSD_PER_USD == limit_pusd(str(LIMIT_USD_MAX))


def test_what_counts_in_floats_takes_texts_too() -> None:
    assert (float_usd("$2", "x"), float_usd(Decimal("0.05"), "x"), float_usd(0, "x")) == (2.0, 0.05, 0.0)
    with pytest.raises(ConfigError, match=r"^limit_usd is dollars above 0 .* not 'much'"):
        float_usd("much", "limit_usd")


def window(text: str) -> float:
    """Return the window of the one policy in a file."""
    made = policy_factory(parse_config(text)["eject_policy"])()
    assert isinstance(made, CompositeEject)
    (policy,) = made.policies
    assert isinstance(policy, ProgressEject)
    return policy.window_usd


ENTRANCES: dict[str, Callable[[str], Any]] = {
    "a script's budget": lambda text: read_settings({"budget_usd": text}).budget_usd,
    "a script's budget by alias": lambda text: read_option("budget_usd", {"a": text})["a"],
    "the file's budget": lambda text: read_option("budget_usd", parse_config(f"budget = '{text}'")["budget_usd"]),
    "the file's budget of a model": lambda text: (
        parse_config(f"models = [{{ id = 'a/b', budget = '{text}' }}]")["models"][0].budget_usd
    ),
    "PREFLIGHT_BUDGET": lambda text: Environment.read({"PREFLIGHT_BUDGET": text}).budget_usd(),
    "the file's window": lambda text: window(f"[[policies]]\npolicy = 'progress'\nwindow_usd = '{text}'"),
    "a policy's window": lambda text: ProgressEject(text, len).window_usd,
    "a tracker's limit": lambda text: BudgetTracker("key", text).limit_usd,
    "top-up": lambda text: usd(read_amounts([f"a={text}"], "ALIAS=USD")[0][1]),
    "proxy": lambda text: usd(amounts_of([f"a={text}"])["a"]),
    "run --budget": lambda text: Decimal(run._read("budget_usd", text).removeprefix("$")),
}


@each("entrance", sorted(ENTRANCES))
def test_each_entrance_takes_dollars_in_the_same_forms_and_within_the_same_limit(entrance: str) -> None:
    read = ENTRANCES[entrance]
    assert [float(read(text)) for text in ("2", "$2", "2.00", "$1000000")] == [2, 2, 2, 1e6]
    for wrong in ("1000000.01", "0", "1,50", "$"):
        with pytest.raises((ConfigError, ValueError, typer.BadParameter), match=r"dollars above 0|more than \$0"):
            read(wrong)


def test_an_amount_is_rounded_up_to_whole_cents() -> None:
    written = [cents_up(pusd(amount)) for amount in ("0.01", "0.010000000001", "0.0041", "1.991", "12")]
    assert written == ["0.01", "0.02", "0.01", "2.00", "12.00"]


def test_small_amounts_are_written_without_an_exponent() -> None:
    assert exact(1) == "0.000000000001"
    assert exact(10**12) == "1"
