"""The runs in a folder, each in a line."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.tables import text_of
from agent_preflight.runs.list import list_runs, runs_table
from tests.support.run_on_disk import CENT, EVENTS, alive, begin, finish, keep_ledger, plan


@pytest.fixture
def runs(tmp_path: Path, no_engine: str) -> Path:
    """A folder for runs, on a machine without an engine."""
    return tmp_path


def word(runs: Path, name: str = "r") -> str:
    return {run.run_dir.name: run.status for run in list_runs(runs)}[name]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["done", "spent", "ejected"], "done"),
        (["done", "failed"], "failed"),
        (["failed", "stopped"], "stopped"),
        (["stopped", "interrupted"], "interrupted"),
        (["interrupted", "lost"], "lost"),
        (["done", None], "incomplete"),
        (["failed", None], "failed"),
    ],
)
def test_a_run_has_the_worst_word_of_its_trials(runs: Path, statuses: list[str | None], expected: str) -> None:
    """None is a trial that is only planned."""
    plan(runs / "r", *(f"t{number}" for number in range(len(statuses))))
    for number, status in enumerate(statuses):
        if status is not None:
            finish(runs / "r", f"t{number}", {"status": status})
    assert word(runs) == expected


def test_what_was_cut_off_is_not_complete(runs: Path) -> None:
    words = ("done", "spent", "ejected", "failed", "stopped", "interrupted", "lost")
    plan(runs / "r", *words, "never")
    for each in words:
        finish(runs / "r", each, {"status": each})
    assert (list_runs(runs)[0].complete, list_runs(runs)[0].trials) == (5, 8)


def test_a_run_that_is_alive_is_running_whatever_has_ended(runs: Path) -> None:
    plan(runs / "r", "a", "b")
    finish(runs / "r", "a", {"status": "failed"})
    with alive(runs / "r"):
        assert word(runs) == "running"
    assert word(runs) == "failed"


def test_a_run_whose_runner_died_is_lost(runs: Path) -> None:
    plan(runs / "r", "a")
    begin(runs / "r", "a", *EVENTS)
    assert word(runs) == "lost"


def test_a_run_whose_checks_failed_was_not_started(runs: Path) -> None:
    (runs / "r").mkdir()
    (runs / "r" / "lock").touch()
    assert word(runs) == "not started"


def test_the_newest_run_comes_first_and_what_is_no_run_is_passed_over(runs: Path) -> None:
    for number in (2, 3, 1):
        plan(runs / f"run-{number}", "a")
        os.utime(runs / f"run-{number}" / "plan.json", (1e9 + number, 1e9 + number))
    finish(runs / "of an older version", "a")
    os.utime(runs / "of an older version", (1, 1))
    (runs / "notes" / "deeper").mkdir(parents=True)
    (runs / "file").touch()
    (runs / "link").symlink_to(runs / "run-1")
    assert [run.run_dir.name for run in list_runs(runs)] == ["run-3", "run-2", "run-1", "of an older version"]
    assert list_runs(runs / "none") == []


def aged(runs: Path, name: str, seconds: float) -> None:
    os.utime(runs / name / "plan.json", (time.time() - seconds,) * 2)


def test_the_table_at_80_columns(runs: Path) -> None:
    plan(runs / "run-20270131-120000", "a", "b")
    finish(runs / "run-20270131-120000", "a", {"status": "done"})
    keep_ledger(runs / "run-20270131-120000", "a")
    plan(runs / "run-\x1b[31m20270130", "a")
    aged(runs, "run-20270131-120000", 245.2)
    aged(runs, "run-\x1b[31m20270130", 3 * 86400)
    assert text_of(runs_table(list_runs(runs))).splitlines() == [
        "run                  status      trials     cost    age",
        "run-20270131-120000  incomplete     1/2  $0.0100  4m05s",
        "run-20270130         incomplete     0/1        -     3d",
    ]


def test_a_ledger_that_cannot_be_read_spoils_one_line_only(runs: Path) -> None:
    plan(runs / "good", "a")
    keep_ledger(runs / "good", "a")
    plan(runs / "bad", "a")
    (runs / "bad" / "ledger.sqlite3").write_text("no database, and long enough to be taken for a page of one" * 99)
    found = {run.run_dir.name: run for run in list_runs(runs)}
    assert (found["good"].posted_pusd, found["good"].trouble) == (CENT, None)
    assert (found["bad"].posted_pusd, "ledger" in str(found["bad"].trouble)) == (None, True)


def test_machines_get_exact_costs_and_ages(runs: Path) -> None:
    plan(runs / "r", "a", "b")
    finish(runs / "r", "a", {"status": "done", "posted_usd": "0.000000000001"})
    os.utime(runs / "r" / "plan.json", (1e9, 1e9))
    document: dict[str, Any] = json.loads(json.dumps(list_runs(runs)[0].to_json(1e9 + 5.5)))
    assert document == {
        "run_id": "r", "status": "incomplete", "ended": 1, "trials": 2, "posted_usd": "0.000000000001",
        "begun_at": "2001-09-09T01:46:40+00:00", "age_s": 5.5, "run_dir": str(runs / "r"),
    }  # fmt: skip


def test_a_clock_that_was_set_back_makes_no_age_below_nothing(runs: Path) -> None:
    plan(runs / "r", "a")
    assert list_runs(runs)[0].to_json(0.0)["age_s"] == 0.0
