"""The summary of a lost trial has what ledger and event log know."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.sweeping.summaries import SETTLED_LATE, LedgerFigures, completed, write_lost_summaries
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.ledger.commands import Conclude, Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.ledger_on_disk import call, open_account, open_store, reserve

KEY = "agent-preflight:r:a:1"


# The engine, which does not answer, has nothing to say about the containers of a run that is over.
pytestmark = pytest.mark.usefixtures("no_engine")


def run_with(tmp_path: Path, *aliases: str) -> Path:
    trials = [{"alias": each, "model_id": "m/x", "budget_usd": "0.25", "key_name": KEY} for each in aliases]
    (tmp_path / "plan.json").write_text(json.dumps({"network": "sealed", "trials": trials}))
    (tmp_path / aliases[0]).mkdir()
    return tmp_path


def summary(run_dir: Path, alias: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run_dir / alias / "summary.json").read_text())
    return document


def test_a_trial_without_a_ledger_has_no_cost(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, "a")
    notes = write_lost_summaries(run_dir, {}, engine_clean=False)
    assert any("nothing was spent" in note for note in notes)
    written = summary(run_dir, "a")
    assert (written["cost_usd"], written["budget_usd"], written["preflight"]["network"]) == (None, 0.25, "sealed")
    assert written["preflight"]["cleanup"]["sandbox"] == written["preflight"]["cleanup"]["sub_key"] == "unverified"


def test_what_is_posted_and_what_is_pending_stand_in_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    for name in ("r1", "r2"):
        store.commit(reserve(name))
    store.commit(Post("r1", 10, CallFacts("m/x", prompt_tokens=2000)))
    store.commit(Conclude("a"))
    store.close()
    run_dir = run_with(tmp_path, "a")
    (run_dir / "a" / "events.jsonl").write_text(
        '{"timestamp": "2027-01-01T00:00:00+00:00", "type": "tool_execution_start"}\n'
    )
    (note,) = write_lost_summaries(run_dir, {KEY: None}, engine_clean=True)
    assert "$0.0000000001 not known yet" in note
    written = summary(run_dir, "a")
    assert written["started_at"] == "2027-01-01T00:00:00+00:00"
    assert (written["tool_calls"], written["events_count"]) == (1, 1)
    assert (written["preflight"]["posted_usd"], written["preflight"]["served"]) == ("0.00000000001", 1)
    assert written["preflight"]["cleanup"] == {"freeze": "ok", "sandbox": "ok", "settle": "unverified", "sub_key": "ok"}


def test_a_summary_that_is_there_stays_and_a_trial_that_never_began_gets_none(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, "a", "never")
    (run_dir / "a" / "summary.json").write_text("{}")
    write_lost_summaries(run_dir, {}, engine_clean=True)
    assert summary(run_dir, "a") == {}
    assert not (run_dir / "never").exists()


def test_a_summary_that_was_left_open_is_completed_once_its_key_is_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r1"))
    run_dir = run_with(tmp_path, "a")
    write_lost_summaries(run_dir, {}, engine_clean=True)
    store.commit(Post("r1", 10))
    store.close()
    assert write_lost_summaries(run_dir, {}, engine_clean=True) == []
    write_lost_summaries(run_dir, {KEY: Decimal("0.00000000001")}, engine_clean=True)
    written = summary(run_dir, "a")["preflight"]
    assert (written["posted_usd"], written["pending_usd"], written["drift_usd"]) == ("0.00000000001", "0", "0")
    assert set(written["cleanup"].values()) == {"ok"}


def test_the_drift_of_an_attempt_leaves_out_what_those_before_it_spent(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, key_hash="first", key_is_own=True, key_usage_pusd=0)
    call(store, "r1", 10)
    open_account(store, key_hash="second", key_is_own=True, key_usage_pusd=0)
    call(store, "r2", 20)
    store.close()
    run_dir = run_with(tmp_path, "a")
    write_lost_summaries(run_dir, {KEY: Decimal("0.00000000002")}, engine_clean=True)
    written = summary(run_dir, "a")["preflight"]
    assert (written["spent_before_usd"], written["drift_usd"]) == ("0.00000000001", "0")


OPEN: dict[str, Any] = {
    "alias": "a",
    "cost_usd": 0.1,
    "preflight": {
        "ended_by": "agent_end",
        "posted_usd": "0.1",
        "pending_usd": "0.05",
        "drift_usd": "0.02",
        "warnings": ["it was slow"],
        "cleanup": {"freeze": "ok", "settle": "unverified", "account": "unverified", "sub_key": "unverified"},
    },
}
KNOWN = LedgerFigures(
    Balance(posted_pusd=pusd("0.12"), assumed_pusd=pusd("0.02"), calls=3), spent_before_pusd=pusd("0.1")
)


def test_the_late_figures_stand_in_it_and_every_step_is_ok() -> None:
    summary = completed(OPEN, KNOWN, Decimal("0.020"))
    assert summary is not None
    extra = summary["preflight"]
    assert (summary["alias"], summary["cost_usd"], extra["ended_by"], extra["calls"]) == ("a", 0.12, "agent_end", 3)
    amounts = [extra[f"{name}_usd"] for name in ("posted", "pending", "assumed", "key_usage", "drift")]
    assert amounts == ["0.12", "0", "0.02", "0.02", "0"]
    assert extra["cleanup"] == {"freeze": "ok", "settle": "ok", "account": "ok", "sub_key": "ok"}
    assert extra["warnings"] == ["it was slow", SETTLED_LATE]


def test_a_figure_that_was_not_told_leaves_the_earlier_one() -> None:
    summary = completed(OPEN, KNOWN, None)
    assert summary is not None
    assert summary["preflight"]["drift_usd"] == "0.02"


def test_a_summary_that_is_whole_stays_as_it_is() -> None:
    whole = {**OPEN, "preflight": {**OPEN["preflight"], "cleanup": {"settle": "ok", "sub_key": "ok"}}}
    assert completed(whole, KNOWN, None) is None
    assert completed({"preflight": []}, KNOWN, None) is None


def test_while_something_is_pending_or_no_account_is_known_nothing_is_completed() -> None:
    assert completed(OPEN, LedgerFigures(Balance(pending_pusd=1)), None) is None
    assert completed(OPEN, LedgerFigures(), None) is None
