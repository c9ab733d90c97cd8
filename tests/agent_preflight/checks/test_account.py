"""Money in the account; the report's texts are in test_preflight."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

import agent_preflight
from agent_preflight.checks.account import check_balance, check_math
from agent_preflight.checks.inputs import Facts, Inputs
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer

Serve = Callable[[Script], ScriptedServer]
INPUTS = Inputs("admin", "key", ("a", "b"), 0.25)


@pytest.mark.parametrize(("balance", "ok"), [(0.10, False), (0.11, True), (-1.0, False), (0.0, False)])
def test_a_balance_must_be_above_ten_cents(monkeypatch: pytest.MonkeyPatch, balance: float, ok: bool) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (balance, 1.0, 1.0 - balance))
    assert [line.ok for line in check_balance(INPUTS, Facts(INPUTS))] == [ok]


@pytest.mark.parametrize(("balance", "ok"), [(0.5, True), (0.49, False), (-1.0, False)])
def test_the_balance_must_cover_all_models(monkeypatch: pytest.MonkeyPatch, balance: float, ok: bool) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (balance, 1.0, 1.0 - balance))
    assert [line.ok for line in check_math(INPUTS, Facts(INPUTS))] == [ok]


@pytest.mark.parametrize(
    ("budgets", "budget_sum", "told"),
    [
        ({}, None, "2 models x $0.25 = $0.50 (OK: balance $99.97)"),
        ({"a": 0.25}, None, "2 models x $0.25 = $0.50 (OK: balance $99.97)"),
        ({"a": 0.1, "b": 0.2}, None, "2 models, $0.30 together (OK: balance $99.97)"),
        ({"a": 0.0033}, None, "2 models, $0.2533 together (OK: balance $99.97)"),
        ({"a": 0.1, "b": 0.1}, Decimal("0.5033"), "2 models, $0.5033 together (OK: balance $99.97)"),
        ({}, Decimal("99.98"), "2 models, $99.98 together (INSUFFICIENT: balance $99.97)"),
    ],
)
def test_budgets_that_differ_are_told_by_their_exact_sum(
    monkeypatch: pytest.MonkeyPatch, budgets: dict[str, float], budget_sum: Decimal | None, told: str
) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (99.97, 100.0, 0.03))
    inputs = replace(INPUTS, budgets=budgets, budget_sum=budget_sum)
    assert [line.detail for line in check_math(inputs, Facts(inputs))] == [told]


def why_not(admin_key: str) -> str:
    inputs = Inputs(admin_key, "key", ("a",), 0.25)
    (line,) = check_balance(inputs, Facts(inputs))
    return line.failure


@pytest.mark.wire
@pytest.mark.parametrize("is_inference_key", [True, False])
def test_a_key_that_is_no_management_key_is_told_as_that(simulator: Simulator, is_inference_key: bool) -> None:
    said = why_not(simulator.inference_key if is_inference_key else "sk-or-v1-wrong")
    assert said.startswith(f"OpenRouter refuses the management key ({403 if is_inference_key else 401}: ")
    assert "Set OR_ADMIN_KEY to a management key: https://openrouter.ai/settings/management-keys" in said


@pytest.mark.wire
def test_an_openrouter_that_tells_no_balance_is_neither_refused_nor_out_of_reach(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {}}) if seen.path == "/key" else (500, {}))
    assert why_not("admin") == "Could not fetch account balance: 500. Try again. Nothing was spent."
