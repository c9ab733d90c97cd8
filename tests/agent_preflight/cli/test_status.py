"""`agent-preflight status`."""

import json
from pathlib import Path

from typer.testing import CliRunner

from agent_preflight.cli import app


def test_a_run_is_shown_and_none_is_no_error(tmp_path: Path) -> None:
    nothing = CliRunner().invoke(app, ["status", "--runs-dir", str(tmp_path)])
    assert (nothing.exit_code, "No runs found" in nothing.stdout) == (0, True)
    (tmp_path / "r" / "a").mkdir(parents=True)
    (tmp_path / "r" / "a" / "summary.json").write_text(json.dumps({"alias": "a", "cost_usd": 0.5}))
    told = CliRunner().invoke(app, ["status", "r", "--runs-dir", str(tmp_path)])
    assert "1/1 complete" in told.stdout


def test_for_machines_there_is_one_object_a_trial(tmp_path: Path) -> None:
    (tmp_path / "r" / "a").mkdir(parents=True)
    told = CliRunner().invoke(app, ["status", "--json", "--runs-dir", str(tmp_path)])
    assert [json.loads(line)["alias"] for line in told.stdout.splitlines()] == ["a"]
