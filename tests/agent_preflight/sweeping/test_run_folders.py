"""A sweep removes only what has the form of ours; an old folder stays while it is live, or needed to find something."""

import fcntl
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.runs.folder import RunControl, short_dir_name
from agent_preflight.sweeping.run_folders import DAY_S, OldRun, leftovers_of, old_runs, remove_run, run_folders


def plan(run_dir: Path, *trials: dict[str, Any]) -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "plan.json").write_text(json.dumps({"trials": trials}))
    return run_dir


def trial(alias: str, key_name: str) -> dict[str, Any]:
    return {"alias": alias, "model_id": "m/m", "budget_usd": "0.25", "key_name": key_name}


def summary(folder: Path, **preflight: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"preflight": preflight}))


def control(run_dir: Path, directory: Path) -> None:
    document = RunControl(directory / "control.sock", directory, 1).document()
    (run_dir / "control.json").write_text(json.dumps(document))


def test_a_key_is_listed_until_a_summary_or_a_sweep_records_its_deletion(tmp_path: Path) -> None:
    run_dir = plan(
        tmp_path / "r", *(trial(name, f"agent-preflight:r:{name}") for name in ("ok", "bad", "none", "never", "maybe"))
    )
    summary(run_dir / "ok", cleanup={"sub_key": "ok"})
    summary(run_dir / "bad", cleanup={"sub_key": "unverified"})
    summary(run_dir / "never", ended_by="provisioning", cleanup={})
    summary(run_dir / "maybe", ended_by="provisioning", cleanup={"sub_key": "unverified"})
    assert leftovers_of(run_dir).keys == ("agent-preflight:r:bad", "agent-preflight:r:none", "agent-preflight:r:maybe")
    recorded: dict[str, dict[str, str]] = {f"agent-preflight:r:{name}": {} for name in ("bad", "none", "maybe")}
    (run_dir / "swept.json").write_text(json.dumps({"keys": recorded}))
    assert not leftovers_of(run_dir)


def test_a_summary_says_nothing_about_the_key_of_an_earlier_attempt(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r", trial("a", "agent-preflight:1"), trial("a", "agent-preflight:2"))
    summary(run_dir / "a", cleanup={"sub_key": "ok"})
    assert leftovers_of(run_dir).keys == ("agent-preflight:1",)


def test_keys_without_our_prefix_and_aliases_that_are_paths_are_ignored(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r", trial("a", "production"), trial("../x", "agent-preflight:x"), {"alias": 1}, {"x": 2})
    assert not leftovers_of(run_dir)


def test_a_socket_directory_counts_only_if_it_is_private_and_named_for_the_run(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    directory = tmp_path / short_dir_name(run_dir, "0123abcd")
    control(run_dir, directory)
    assert leftovers_of(run_dir).control is not None  # it is gone, and only its mention is left
    directory.mkdir(0o700)
    assert leftovers_of(run_dir).control is not None
    directory.chmod(0o755)
    assert leftovers_of(run_dir).control is None
    of_another = tmp_path / short_dir_name(plan(tmp_path / "r2"), "0123abcd")
    for foreign in (tmp_path, Path.home(), Path(tempfile.gettempdir()) / "other", tmp_path / "ap-x", of_another):
        control(run_dir, foreign)
        assert leftovers_of(run_dir).control is None


def test_a_socket_outside_the_directory_is_not_ours(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    directory = tmp_path / short_dir_name(run_dir, "0123abcd")
    document = RunControl(tmp_path / "control.sock", directory, 1).document()
    (run_dir / "control.json").write_text(json.dumps(document))
    assert leftovers_of(run_dir).control is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_socket_directory_of_another_user_is_not_ours(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    directory = tmp_path / short_dir_name(run_dir, "0123abcd")
    control(run_dir, directory)
    directory.mkdir(0o700)
    os.chown(directory, 65534, 65534)
    assert leftovers_of(run_dir).control is None


def test_a_run_behind_a_link_has_the_socket_directory_of_its_real_path(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    (tmp_path / "link").symlink_to(run_dir)
    control(run_dir, tmp_path / short_dir_name(run_dir, "0123abcd"))
    assert leftovers_of(tmp_path / "link").control is not None


def test_a_link_in_place_of_the_socket_directory_is_not_followed(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    link = tmp_path / short_dir_name(run_dir, "0123abcd")
    link.symlink_to(tmp_path)
    control(run_dir, link)
    assert leftovers_of(run_dir).control is None


def test_trials_that_are_runs_by_themselves_are_found_one_level_deeper(tmp_path: Path) -> None:
    plan(tmp_path / "run" / "inner")
    plan(tmp_path / "run")
    plan(tmp_path / "shared" / "a")
    (tmp_path / "empty").mkdir()
    assert list(run_folders(tmp_path)) == [tmp_path / "empty", tmp_path / "run", tmp_path / "shared" / "a"]


def test_a_missing_directory_has_no_run_folders(tmp_path: Path) -> None:
    assert list(run_folders(tmp_path / "none")) == []


def old_run(runs_dir: Path, name: str, *, days: float = 40, lock: bool = True) -> Path:
    """A dead run's folder in which nothing has changed for so many days."""
    run_dir, at_s = runs_dir / name, time.time() - days * DAY_S
    (run_dir / "a" / "workspace").mkdir(parents=True)
    if lock:
        (run_dir / "lock").touch()
    for path in (*run_dir.iterdir(), run_dir):
        os.utime(path, (at_s, at_s))
    return run_dir


def removable(runs_dir: Path, days: float = 30) -> dict[str, bool]:
    """Whether each listed folder may be removed, by its name."""
    return {run.path.name: run.keep is None for run in old_runs(runs_dir, days * DAY_S)}


def test_a_folder_is_old_if_nothing_in_it_has_changed_for_that_long(tmp_path: Path) -> None:
    old_run(tmp_path, "r")
    assert removable(tmp_path) == {"r": True}
    assert removable(tmp_path, 50) == {}


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    for name, days in (("newer", 1), ("older", 9)):
        old_run(tmp_path, name, days=days)
    runs = old_runs(tmp_path, 0)
    assert [(run.path.name, round(run.age_s / DAY_S)) for run in runs] == [("older", 9), ("newer", 1)]


def test_a_live_run_is_not_listed_and_cannot_be_removed(tmp_path: Path) -> None:
    run_dir = old_run(tmp_path, "r")
    with (run_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert removable(tmp_path) == {}
        assert not remove_run(run_dir)
    assert remove_run(run_dir)
    assert not run_dir.exists()


def test_one_live_trial_keeps_the_folder_that_others_share(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    old_run(shared, "a")
    with (old_run(shared, "b") / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert removable(tmp_path, days=0) == {}
        assert not remove_run(shared)
    assert removable(tmp_path, days=0) == {"shared": True}
    assert remove_run(shared)


def test_a_folder_without_a_lock_is_listed_and_kept(tmp_path: Path) -> None:
    run_dir = old_run(tmp_path, "r", lock=False)
    (run,) = old_runs(tmp_path, 0)
    assert "no lock" in (run.keep or "")
    assert not remove_run(run_dir)


def test_a_folder_stays_while_its_plan_names_a_key_that_may_exist(tmp_path: Path) -> None:
    run_dir = old_run(tmp_path, "r")
    (run_dir / "plan.json").write_text(json.dumps({"trials": [{"alias": "a", "key_name": "agent-preflight:r:a:1"}]}))
    (run,) = old_runs(tmp_path, 0)
    assert "sweep first" in (run.keep or "")
    assert not remove_run(run_dir)


def test_no_link_is_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    runs_dir = tmp_path / "runs"
    run_dir = old_run(runs_dir, "r")
    (run_dir / "a" / "workspace" / "link").symlink_to(precious)
    (runs_dir / "linked").symlink_to(precious)
    assert removable(runs_dir) == {"r": True}
    assert remove_run(run_dir)
    assert (precious / "file").exists()


def test_a_missing_directory_has_no_old_runs(tmp_path: Path) -> None:
    assert old_runs(tmp_path / "none", 0) == list[OldRun]()
