"""The account: its balance, the budgets together, the inference key. The texts of the report are in test_suite."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

import agent_preflight
from agent_preflight.checks.account import check_api_key, check_balance, check_math
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine
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
    ("budgets", "budget_sum", "detail"),
    [
        ({}, None, "2 models x $0.25 = $0.50 (OK: balance $99.97)"),
        ({"a": 0.25}, None, "2 models x $0.25 = $0.50 (OK: balance $99.97)"),
        ({"a": 0.1, "b": 0.2}, None, "2 models, $0.30 together (OK: balance $99.97)"),
        ({"a": 0.0033}, None, "2 models, $0.2533 together (OK: balance $99.97)"),
        ({"a": 0.1, "b": 0.1}, Decimal("0.5033"), "2 models, $0.5033 together (OK: balance $99.97)"),
        ({}, Decimal("99.98"), "2 models, $99.98 together (INSUFFICIENT: balance $99.97)"),
    ],
)
def test_budgets_that_differ_are_shown_as_their_exact_sum(
    monkeypatch: pytest.MonkeyPatch, budgets: dict[str, float], budget_sum: Decimal | None, detail: str
) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (99.97, 100.0, 0.03))
    inputs = replace(INPUTS, budgets=budgets, budget_sum=budget_sum)
    assert [line.detail for line in check_math(inputs, Facts(inputs))] == [detail]


def balance_failure(admin_key: str) -> str:
    inputs = Inputs(admin_key, "key", ("a",), 0.25)
    (line,) = check_balance(inputs, Facts(inputs))
    return line.failure


@pytest.mark.wire
@pytest.mark.parametrize("is_inference_key", [True, False])
def test_a_key_that_is_not_a_management_key_is_reported_as_such(simulator: Simulator, is_inference_key: bool) -> None:
    failure = balance_failure(simulator.inference_key if is_inference_key else "sk-or-v1-wrong")
    assert failure.startswith(
        f"Could not fetch account balance: OpenRouter refuses the management key ({403 if is_inference_key else 401}: "
    )
    assert "Set OR_ADMIN_KEY to a management key: https://openrouter.ai/settings/management-keys" in failure


@pytest.mark.wire
def test_an_answer_without_a_balance_is_reported_with_its_status(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {}}) if seen.path == "/key" else (500, {}))
    assert (
        balance_failure("admin") == "Could not fetch account balance: OpenRouter answers with 500. Nothing was spent."
    )


def key_line(key: str) -> CheckLine:
    inputs = Inputs("admin", key, (), 1.0)
    (line,) = check_api_key(inputs, Facts(inputs))
    return line


@pytest.mark.wire
def test_a_wrong_or_missing_inference_key_fails_and_says_what_to_do(simulator: Simulator) -> None:
    assert key_line(simulator.inference_key) == CheckLine(ok=True, name="Inference key", detail="works")
    for wrong, failure in (
        ("sk-or-v1-wrong", "OpenRouter refuses the inference key (401: "),
        (" ", "The inference key is missing."),
    ):
        line = key_line(wrong)
        assert line.failure.startswith(failure)
        assert "Set OPENROUTER_API_KEY to an inference key: https://openrouter.ai/settings/keys" in line.failure


@pytest.mark.wire
def test_a_management_key_cannot_make_calls(simulator: Simulator) -> None:
    assert key_line(simulator.admin_key).failure.startswith(
        "OPENROUTER_API_KEY is a management key, which cannot make calls."
    )


@pytest.mark.wire
@pytest.mark.parametrize(
    ("data", "ok", "detail"),
    [
        ({"limit_remaining": 0}, None, "works, but its own limit is used up"),
        ({"limit_remaining": -0.5}, None, "works, but its own limit is used up"),
        ({"limit_remaining": 0.01}, True, "works"),
        ({"limit_remaining": None}, True, "works"),
        ({"is_provisioning_key": True}, False, "is a management key"),
        (5, None, "OpenRouter reports nothing about it"),
    ],
)
def test_the_line_follows_what_openrouter_reports_of_the_key(
    serve: Serve, data: Any, ok: bool | None, detail: str
) -> None:
    serve(lambda seen: (200, {"data": data}))
    line = key_line("key")
    assert (line.ok, line.detail) == (ok, detail)


@pytest.mark.wire
def test_a_key_that_cannot_be_read_is_not_reported_as_wrong(serve: Serve) -> None:
    serve(lambda seen: (503, {}))
    assert key_line("key").failure.startswith("Cannot reach OpenRouter at ")
