"""Money in the account; the report's texts are in test_preflight."""

import pytest

import agent_preflight
from agent_preflight.checks.account import check_balance, check_math
from agent_preflight.checks.inputs import Facts, Inputs

INPUTS = Inputs("admin", "key", ("a", "b"), 0.25)


@pytest.mark.parametrize(("balance", "ok"), [(0.10, False), (0.11, True), (-1.0, False), (0.0, False)])
def test_a_balance_must_be_above_ten_cents(monkeypatch: pytest.MonkeyPatch, balance: float, ok: bool) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (balance, 1.0, 1.0 - balance))
    assert [line.ok for line in check_balance(INPUTS, Facts(INPUTS))] == [ok]


@pytest.mark.parametrize(("balance", "ok"), [(0.5, True), (0.49, False), (-1.0, False)])
def test_the_balance_must_cover_all_models(monkeypatch: pytest.MonkeyPatch, balance: float, ok: bool) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda _: (balance, 1.0, 1.0 - balance))
    assert [line.ok for line in check_math(INPUTS, Facts(INPUTS))] == [ok]
