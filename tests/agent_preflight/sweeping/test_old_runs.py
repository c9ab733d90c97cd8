"""Old folders are removed, if they are neither live nor needed to find something."""

import fcntl
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_preflight.sweeping.old_runs import DAY_S, OldRun, old_runs, remove_run

LATER = datetime.now(UTC) + timedelta(days=40)


def made(runs_dir: Path, name: str, *, lock: bool = True) -> Path:
    run_dir = runs_dir / name
    (run_dir / "a" / "workspace").mkdir(parents=True)
    if lock:
        (run_dir / "lock").touch()
    return run_dir


def found(runs_dir: Path, days: float = 30) -> dict[str, bool]:
    return {run.path.name: run.keep is None for run in old_runs(runs_dir, days * DAY_S, LATER)}


def test_a_folder_is_old_when_nothing_in_it_has_changed_for_so_long(tmp_path: Path) -> None:
    made(tmp_path, "r")
    assert found(tmp_path) == {"r": True}
    assert found(tmp_path, 50) == {}


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    for name, days in (("newer", 1), ("older", 9)):
        run_dir, at_s = made(tmp_path, name), datetime.now(UTC).timestamp() - days * DAY_S
        for path in (*run_dir.iterdir(), run_dir):
            os.utime(path, (at_s, at_s))
    runs = old_runs(tmp_path, 0)
    assert [(run.path.name, round(run.age_s / DAY_S)) for run in runs] == [("older", 9), ("newer", 1)]


def test_a_live_run_is_not_even_listed_and_cannot_be_removed(tmp_path: Path) -> None:
    run_dir = made(tmp_path, "r")
    with (run_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(tmp_path) == {}
        assert not remove_run(run_dir)
    assert remove_run(run_dir)
    assert not run_dir.exists()


def test_one_live_trial_keeps_the_folder_that_it_shares(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    made(shared, "a")
    with (made(shared, "b") / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert found(tmp_path) == {}
        assert not remove_run(shared)
    assert found(tmp_path) == {"shared": True}
    assert remove_run(shared)


def test_what_has_no_lock_is_listed_with_the_reason_to_keep_it(tmp_path: Path) -> None:
    run_dir = made(tmp_path, "r", lock=False)
    (run,) = old_runs(tmp_path, 0, LATER)
    assert "no lock" in (run.keep or "")
    assert not remove_run(run_dir)


def test_a_folder_by_which_a_key_is_still_to_be_found_stays(tmp_path: Path) -> None:
    run_dir = made(tmp_path, "r")
    (run_dir / "plan.json").write_text(json.dumps({"trials": [{"alias": "a", "key_name": "agent-preflight:r:a:1"}]}))
    (run,) = old_runs(tmp_path, 0, LATER)
    assert "sweep first" in (run.keep or "")
    assert not remove_run(run_dir)


def test_no_link_is_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    runs_dir = tmp_path / "runs"
    run_dir = made(runs_dir, "r")
    (run_dir / "a" / "workspace" / "link").symlink_to(precious)
    (runs_dir / "linked").symlink_to(precious)
    assert found(runs_dir) == {"r": True}
    assert remove_run(run_dir)
    assert (precious / "file").exists()


def test_no_runs_are_no_old_runs(tmp_path: Path) -> None:
    assert old_runs(tmp_path / "none", 0) == list[OldRun]()
