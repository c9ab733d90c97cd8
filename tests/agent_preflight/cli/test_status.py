"""`agent-preflight status`."""

import json
from pathlib import Path

from tests.agent_preflight.cli.invoke import Told, invoke


def status(runs_dir: Path, *arguments: str) -> Told:
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
    assert [(row["alias"], row["status"]) for row in rows[:2]] == [("a", "DONE"), ("b", "DONE")]
    assert rows[2]["alias"] == "c"


def test_nothing_to_show_is_no_failure(tmp_path: Path) -> None:
    for arguments, words in (((), "No runs found"), (("no-such",), "No runs found"), (("../../etc",), "No runs found")):
        told = status(tmp_path, *arguments)
        assert (told.exit_code, words in told.stdout) == (0, True), told.output
    told = status(tmp_path / "none", "--json")
    assert (told.exit_code, told.output) == (0, "")
