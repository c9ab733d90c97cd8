"""The state of runs and their trials, read from folders and ledgers."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.tables import text_of
from agent_preflight.models import CacheStats
from agent_preflight.runs.status import TrialStatus, list_runs, read_run, runs_table
from tests.support.run_on_disk import CENT, EVENTS, alive, begin, finish, keep_ledger, plan


@pytest.fixture
def run(tmp_path: Path, no_engine: str) -> Path:
    """An empty run, on a machine without an engine."""
    (tmp_path / "run-1").mkdir()
    return tmp_path / "run-1"


@pytest.fixture
def runs(tmp_path: Path, no_engine: str) -> Path:
    """A folder for runs, on a machine without an engine."""
    return tmp_path


def one(run: Path) -> TrialStatus:
    (found,) = read_run(run).trials
    return found


def test_a_running_trial_has_its_cost_calls_and_reserve_from_the_ledger(run: Path) -> None:
    plan(run, "a", "later")
    begin(run, "a", *EVENTS)
    keep_ledger(run, "a", pending=True)
    with alive(run):
        found = read_run(run)
    a, later = found.trials
    assert found.live
    assert (a.status, a.posted_pusd, a.pending_pusd, a.calls, a.limit_pusd) == ("running", CENT, 2 * CENT, 1, 25 * CENT)
    assert (a.model_id, a.events_count, a.tool_calls) == ("m/x", 2, 1)
    assert a.duration_s is not None
    assert a.duration_s > 86400, "until now, not until its last event"
    assert (later.status, later.posted_pusd, later.limit_pusd) == ("pending", None, 25 * CENT)
    assert (found.posted_pusd, found.complete) == (CENT, 0)


def test_a_trial_whose_runner_died_is_lost_and_one_that_never_began_is_pending(run: Path) -> None:
    plan(run, "a", "later")
    begin(run, "a", *EVENTS)
    keep_ledger(run, "a")
    found = read_run(run)
    assert [(trial.alias, trial.status) for trial in found.trials] == [("a", "lost"), ("later", "pending")]
    assert (found.live, found.trials[0].posted_pusd, found.trials[0].duration_s) == (False, CENT, 3.5)


@pytest.mark.parametrize(
    ("error", "block", "status"),
    [
        (None, None, "done"),
        ("ejected: idle", None, "ejected"),
        ("boom", None, "failed"),
        (None, {"status": "spent"}, "spent"),
        ("stopped by a person", {"status": "stopped"}, "stopped"),
        ("interrupted", {"status": "interrupted"}, "interrupted"),
        ("the runner was lost", {"status": "failed", "ended_by": "lost"}, "lost"),
        (None, {"status": "\x1b[31mDONE"}, "done"),
    ],
)
def test_a_trial_that_has_ended_has_one_of_seven_words(
    run: Path, error: str | None, block: dict[str, Any] | None, status: str
) -> None:
    finish(run, "a", block, error=error)
    assert (one(run).status, one(run).ended) == (status, True)


def test_without_a_ledger_the_summary_tells(run: Path) -> None:
    finish(run, "a", cost_usd=0.12345, duration_s=75.25, tool_calls=3, events_count=9, cache=CacheStats(1000, 800))
    found = one(run)
    assert (found.posted_pusd, found.pending_pusd, found.calls, found.limit_pusd) == (
        123_500_000_000,
        None,
        None,
        50 * CENT,
    )
    assert (found.duration_s, found.tool_calls, found.events_count, found.cache_hit_rate) == (75.25, 3, 9, 0.8)


def test_the_exact_amount_of_a_summary_wins_over_the_rounded_one_and_the_ledger_over_both(run: Path) -> None:
    finish(run, "a", {"posted_usd": "0.123456789012", "pending_usd": "0.5", "calls": 7, "refused": 2}, cost_usd=0.1235)
    found = one(run)
    assert (found.posted_pusd, found.pending_pusd, found.calls, found.refused) == (123_456_789_012, 50 * CENT, 7, 2)
    keep_ledger(run, "a")
    assert (one(run).posted_pusd, one(run).pending_pusd, one(run).calls, one(run).refused) == (CENT, 0, 1, 0)


def test_a_ledger_that_cannot_be_read_is_said_and_the_summaries_are_taken(run: Path) -> None:
    finish(run, "a", cost_usd=0.5)
    (run / "ledger.sqlite3").write_text("no database, and long enough to be taken for a page of one" * 99)
    found = read_run(run)
    assert "ledger" in str(found.trouble)
    assert found.posted_pusd == 50 * CENT
    (run / "ledger.sqlite3").unlink()
    assert read_run(run).trouble is None


def test_a_trial_that_is_a_run_by_itself_has_a_lock_a_plan_and_a_ledger_of_its_own(run: Path) -> None:
    begin(run, "a", *EVENTS)
    plan(run / "a", "a")
    keep_ledger(run / "a", "a", pending=True)
    with alive(run / "a"):
        assert (read_run(run).live, one(run).status, one(run).pending_pusd) == (True, "running", 2 * CENT)
        assert (one(run / "a").alias, one(run / "a").status) == ("a", "running")
    assert one(run).status == "lost"


def test_what_an_agent_or_a_crash_made_of_a_summary_is_no_error(run: Path) -> None:
    folder = finish(run, "a")
    nonsense = {
        "cost_usd": "x", "tool_calls": [], "cache": 5, "duration_s": None, "error": {"a": 1}, "started_at": 3,
        "preflight": {"posted_usd": "NaN?", "limit_usd": "1e999999", "calls": "x", "notes": 7, "status": ["done"]},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(nonsense))
    found = one(run)
    assert (found.status, found.posted_pusd, found.calls, found.error) == ("failed", None, 0, "{'a': 1}")
    json.dumps(found.to_json())
    (folder / "summary.json").write_text("{corrupt")
    assert one(run).status == "pending"


def test_machines_get_the_words_of_summary_json_and_exact_amounts(run: Path) -> None:
    finish(run, "a", {"posted_usd": "0.000000000001", "pending_usd": "0"}, duration_s=1.25, error="ejected: idle")
    document = one(run).to_json()
    assert list(document) == [
        *("alias", "model_id", "status", "limit_usd", "posted_usd", "pending_usd", "calls", "refused", "tool_calls"),
        *("events_count", "started_at", "duration_s", "cache_hit_rate", "error", "notes", "budget"),
        *("fits_tokens", "fits_model"),
    ]
    assert (document["posted_usd"], document["pending_usd"], document["status"]) == ("0.000000000001", "0", "ejected")
    assert (document["duration_s"], document["error"], document["calls"]) == (1.25, "ejected: idle", None)


def test_the_note_says_an_error_once(run: Path) -> None:
    finish(run, "a", {"status": "ejected", "notes": ["no call"]}, error="ejected: idle")
    assert one(run).note == "idle; no call"


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
    assert (list_runs(runs)[0].complete, len(list_runs(runs)[0].trials)) == (5, 8)


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
