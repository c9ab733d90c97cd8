"""`agent-preflight status`."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault
from tests.support.cli_commands import CommandResult, invoke
from tests.support.live_field import LiveField
from tests.support.trial_field import Field


def status(runs_dir: Path, *arguments: str) -> CommandResult:
    return invoke(
        "status", *arguments, "--runs-dir", str(runs_dir), env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    )


def ended(runs_dir: Path, run_id: str, *aliases: str) -> None:
    for alias in aliases:
        folder = runs_dir / run_id / alias
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"alias": alias, "cost_usd": 0.5, "tool_calls": 3}))


def test_the_latest_run_is_shown_unless_one_is_named(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "first")
    for arguments in ((), ("run-1",)):
        told = status(tmp_path, *arguments)
        assert told.exit_code == 0
        assert "first" in told.stdout
        assert "1/1 complete" in told.stdout


def test_for_machines_each_trial_is_an_object(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "a", "b")
    (tmp_path / "run-1" / "c").mkdir()
    rows = [json.loads(line) for line in status(tmp_path, "--json").stdout.splitlines()]
    assert [(row["alias"], row["status"]) for row in rows[:2]] == [("a", "done"), ("b", "done")]
    assert rows[2]["alias"] == "c"


def test_nothing_to_show_is_no_failure(tmp_path: Path) -> None:
    told = status(tmp_path)
    assert (told.exit_code, told.stdout) == (0, f"No runs found in {tmp_path}/\n")
    told = status(tmp_path / "none", "--json")
    assert (told.exit_code, told.output) == (0, "")


@pytest.mark.parametrize("command", ["status", "costs", "cache-report", "stop", "top-up"])
@pytest.mark.parametrize("run_id", ["run-nope", "../../etc"])
def test_a_run_that_is_not_there_is_a_failure_and_the_latest_are_named(
    tmp_path: Path, command: str, run_id: str
) -> None:
    ended(tmp_path, "run-1", "a")
    more = ("a=1",) if command == "top-up" else ()
    told = invoke(command, run_id, *more, "--runs-dir", str(tmp_path))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f'There is no run "{run_id}" in {tmp_path}/. Latest: run-1.\n'


@pytest.mark.wire
def test_a_trial_that_runs_has_its_cost_its_calls_and_its_reserve_from_the_ledger(trials: Field) -> None:
    """A call is under way: its worst case is reserved, and the one before it has its cost."""
    trials.simulator.scenario = Scenario(
        faults=(FaultRule(make_fault("stall", {"after": 2, "stall_s": 6.0}), after=1),)
    )
    source = "call(); say('ready'); call(stream=True, max_tokens=1000)"
    with LiveField(trials, {"a": source}) as live:
        row = until_reserved(trials.runs_dir)
        assert (row["status"], row["calls"], row["limit_usd"]) == ("running", 1, "0.05")
        assert 0 < Decimal(row["posted_usd"]) < Decimal(row["pending_usd"])
        told = status(trials.runs_dir).stdout
        assert told.startswith("Run: live (running)\n")
        assert max(map(len, told.splitlines())) <= 80
        shown = told.splitlines()[3].split()
        assert shown[:3] == ["a", "running", "1"]
        assert f"${Decimal(row['pending_usd']):.4f}" in shown
        live.results()


def until_reserved(runs_dir: Path) -> dict[str, Any]:
    """How the trial stands once something is reserved for it."""
    until_s = time.monotonic() + 30
    while True:
        row: dict[str, Any] = json.loads(status(runs_dir, "--json").stdout)
        if Decimal(row["pending_usd"] or 0):
            return row
        assert time.monotonic() < until_s, row
        time.sleep(0.05)
