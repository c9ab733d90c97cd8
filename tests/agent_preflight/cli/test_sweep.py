"""`agent-preflight sweep`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from tests.support.crashed_run import BUSY, crash
from tests.support.trial_field import Field

# The engine is one in which nothing is: what other runs on this machine left is not ours to look at.
pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("docker_host")]


def sweep(runs_dir: Path, *arguments: str, admin_key: str = "", **more: Any) -> Result:
    environment = {"OR_ADMIN_KEY": admin_key, "OPENROUTER_ADMIN_KEY": ""}
    return CliRunner().invoke(app, ["sweep", *arguments, "--runs-dir", str(runs_dir)], env=environment, **more)


def old_run(runs_dir: Path, name: str, days: float) -> Path:
    run_dir = runs_dir / name
    run_dir.mkdir(parents=True)
    (run_dir / "lock").touch()
    at_s = (run_dir / "lock").stat().st_mtime - days * 86_400
    for path in (run_dir / "lock", run_dir):
        os.utime(path, (at_s, at_s))
    return run_dir


def test_where_nothing_is_left_it_says_so(tmp_path: Path) -> None:
    told = sweep(tmp_path)
    assert (told.exit_code, told.output) == (0, "Nothing to clean up.\n")


def test_first_a_rehearsal_then_the_sweep(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    rehearsed = sweep(trials.runs_dir, "--dry-run", admin_key=trials.simulator.admin_key)
    assert (rehearsed.exit_code, rehearsed.output.count("would remove: ")) == (0, 3)
    swept = sweep(trials.runs_dir, admin_key=trials.simulator.admin_key)
    assert (swept.exit_code, swept.output.count("removed: ")) == (0, 3)
    assert "summary of" in swept.output


def test_what_is_left_is_exit_code_5(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    told = sweep(trials.runs_dir)
    assert told.exit_code == 5
    assert "LEFT: sub-key agent-preflight:crashed:a:" in told.output
    assert "OR_ADMIN_KEY" in told.output
    assert sweep(trials.runs_dir, admin_key=trials.simulator.admin_key).exit_code == 0


def test_for_machines_it_is_one_object(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    told = json.loads(sweep(trials.runs_dir, "--json", admin_key=trials.simulator.admin_key).stdout)
    assert [item["kind"] for item in told["removed"]] == ["proxy", "sub-key", "sockets"]
    assert (told["dry_run"], told["left"], told["removed_runs"]) == (False, [], [])


def test_old_folders_go_after_a_question(tmp_path: Path) -> None:
    old, young = old_run(tmp_path, "old", 31), old_run(tmp_path, "young", 29)
    asked = ("--runs-older-than", "30")
    assert "old  31 days old" in sweep(tmp_path, *asked, "--dry-run").output
    assert sweep(tmp_path, *asked, input="n\n").exit_code == 1
    assert old.exists()
    assert sweep(tmp_path, *asked, input="y\n").exit_code == 0
    assert (old.exists(), young.exists()) == (False, True)


def test_with_yes_nobody_is_asked(tmp_path: Path) -> None:
    old = old_run(tmp_path, "old", 2)
    told = json.loads(sweep(tmp_path, "--runs-older-than", "1", "--yes", "--json").stdout)
    assert told["removed_runs"] == [str(old)]
    assert not old.exists()


def test_a_folder_that_must_be_kept_is_listed_with_the_reason(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    told = sweep(trials.runs_dir, "--runs-older-than", "0", "--yes")
    assert "kept: something of it may be left" in told.output
    assert run_dir.exists()
    assert (
        sweep(trials.runs_dir, "--runs-older-than", "0", "--yes", admin_key=trials.simulator.admin_key).exit_code == 0
    )
    assert not run_dir.exists()
    trials.may_differ = True
