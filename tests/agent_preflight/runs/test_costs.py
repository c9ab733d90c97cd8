"""What calls cost, from a run's ledger."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.runs.costs import cost_lines, ledgers_of, sums_by_account, sums_of
from preflight_proxy.core.errors import ConfigError, LedgerError
from tests.support.ledger_on_disk import call, open_account, open_store

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


def test_a_weighing_costs_money_and_is_no_call() -> None:
    sums = sums_of([LINES[0], {**LINES[0], "purpose": "weighing"}])
    assert (sums.calls, sums.cost_usd) == (1, 2 * sums_of(LINES[:1]).cost_usd)


def test_each_account_has_its_own_sums() -> None:
    assert {name: sums.cost_usd for name, sums in sums_by_account(LINES).items()} == {
        "a": Decimal("0.000000000001"),
        "b": Decimal("0.05"),
    }


def test_a_folder_has_its_own_ledger_or_those_of_its_trials(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger"):
        ledgers_of(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file: name the folder"):
        ledgers_of(tmp_path / "file")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ledger.sqlite3").touch()
    assert ledgers_of(tmp_path) == [tmp_path / "a" / "ledger.sqlite3"]


def keep_books(folder: Path, account: str, *costs_pusd: int) -> None:
    """A ledger with an account that made some calls."""
    folder.mkdir()
    store = open_store(folder)
    open_account(store, account)
    for number, cost_pusd in enumerate(costs_pusd):
        call(store, f"{account}{number}", cost_pusd, account)
    store.close()


def test_trials_that_are_runs_by_themselves_are_summed_together(tmp_path: Path) -> None:
    keep_books(tmp_path / "a", "a", 1, 2)
    keep_books(tmp_path / "b", "b", 4)
    lines = list(cost_lines(tmp_path))
    assert [(line["account"], line["cost_usd"]) for line in lines] == [
        ("a", "0.000000000001"),
        ("a", "0.000000000002"),
        ("b", "0.000000000004"),
    ]
    assert sums_of(lines).cost_usd == Decimal("0.000000000007")
    assert [ledger.parent.name for ledger in ledgers_of(tmp_path)] == ["a", "b"]


def test_a_ledger_that_is_being_written_is_read_as_it_stands(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    call(store, "first", 1)
    assert len(list(cost_lines(tmp_path))) == 1
    call(store, "second", 2)
    assert len(list(cost_lines(tmp_path))) == 2
    store.close()


def test_a_file_that_is_no_ledger_is_an_error_and_not_zero(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_text("no database, and long enough to be taken for a page of one" * 99)
    with pytest.raises(LedgerError):
        list(cost_lines(tmp_path))
