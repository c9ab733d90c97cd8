"""`agent-preflight runs`."""

import json
from pathlib import Path

import pytest

from tests.support.cli_commands import invoke
from tests.support.run_on_disk import alive, finish, keep_ledger, plan


@pytest.mark.parametrize("command", ["runs", "list"])
def test_runs_are_listed_with_status_trials_cost_and_age(tmp_path: Path, command: str, no_engine: str) -> None:
    plan(tmp_path / "over", "a")
    finish(tmp_path / "over", "a", {"status": "done"})
    keep_ledger(tmp_path / "over", "a")
    plan(tmp_path / "live", "a", "b")
    with alive(tmp_path / "live"):
        told = invoke(command, "--runs-dir", str(tmp_path))
    assert told.exit_code == 0, told.output
    rows = {line.split()[0]: line.split()[1:] for line in told.stdout.splitlines()}
    assert rows["run"] == ["status", "trials", "cost", "age"]
    assert rows["live"][:3] == ["running", "0/2", "-"]
    assert rows["over"][:3] == ["done", "1/1", "$0.0100"]


def test_for_machines_each_run_is_an_object(tmp_path: Path, no_engine: str) -> None:
    plan(tmp_path / "r", "a")
    (row,) = [json.loads(line) for line in invoke("runs", "--json", "--runs-dir", str(tmp_path)).stdout.splitlines()]
    assert (row["run_id"], row["status"], row["trials"], row["posted_usd"]) == ("r", "incomplete", 1, None)
    assert row["age_s"] >= 0


def test_where_nothing_is_it_says_so_and_where_it_looked(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        told = invoke("runs", "--runs-dir", str(place))
        assert (told.exit_code, told.stdout.startswith(f"No runs found in {place}/.")) == (0, True), told.output
        assert "--runs-dir" in told.stdout
    assert invoke("runs", "--json", "--runs-dir", str(tmp_path)).output == ""


def test_list_is_another_name_that_help_does_not_show() -> None:
    told = invoke("--help").stdout
    assert ("\n  runs " in told, "\n  list " in told) == (True, False)
