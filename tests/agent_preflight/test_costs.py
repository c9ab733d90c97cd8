"""What calls cost, from a run's own ledger."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.costs import ledgers_of, sums_by_account, sums_of
from preflight_proxy.errors import ConfigError

LINES: list[dict[str, Any]] = [
    {"account": "b", "cost_usd": "0.1", "outcome": "posted", "prompt_tokens": 3, "cached_tokens": 1},
    {"account": "a", "cost_usd": "0.000000000001", "outcome": "assumed", "prompt_tokens": None},
    {"account": "a", "cost_usd": "0", "outcome": "voided"},
    {"account": "b", "cost_usd": "-0.05", "outcome": "adjusted"},
]


def test_sums_are_exact_and_take_corrections_in() -> None:
    sums = sums_of(LINES)
    assert sums.cost_usd == Decimal("0.050000000001")
    assert sums.to_json()["cost_usd"] == "0.050000000001"
    assert (sums.calls, sums.tokens["prompt_tokens"], sums.tokens["cached_tokens"]) == (2, 3, 1)


def test_each_account_has_its_own_sums() -> None:
    assert {name: sums.cost_usd for name, sums in sums_by_account(LINES).items()} == {
        "a": Decimal("0.000000000001"),
        "b": Decimal("0.05"),
    }


def test_a_folder_has_its_own_ledger_or_those_of_its_trials(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger"):
        ledgers_of(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ledger.sqlite3").touch()
    assert ledgers_of(tmp_path) == [tmp_path / "a" / "ledger.sqlite3"]
