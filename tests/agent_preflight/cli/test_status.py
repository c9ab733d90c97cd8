"""`agent-preflight status`."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from agent_preflight.cli import app


def status(runs_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments, "--runs-dir", str(runs_dir)])


def ended(runs_dir: Path, run_id: str, alias: str) -> None:
    folder = runs_dir / run_id / alias
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"alias": alias, "cost_usd": 0.5, "tool_calls": 3, "error": None}))


def test_the_latest_run_is_shown_unless_one_is_named(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "first")
    assert "first" in status(tmp_path).output
    assert "first" in status(tmp_path, "run-1").output


def test_for_machines_each_trial_is_an_object(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "a")
    ended(tmp_path, "run-1", "b")
    rows = [json.loads(line) for line in status(tmp_path, "--json").stdout.splitlines()]
    assert [(row["alias"], row["status"]) for row in rows] == [("a", "DONE"), ("b", "DONE")]


def test_without_any_run_it_exits_with_0(tmp_path: Path) -> None:
    assert status(tmp_path / "none").exit_code == 0
    told = status(tmp_path / "none", "--json")
    assert (told.exit_code, told.output) == (0, "")
