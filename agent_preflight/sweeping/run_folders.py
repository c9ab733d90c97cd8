"""The folders of runs: what a run may have outside its folder (C15, what a sweep removes), and which folders are old.

An agent may have written in them, so names and paths count only if they have the form of ours, and no link is followed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import read_json_object, trial_dirs
from agent_preflight.runs.folder import LOCK_NAME, RunControl, RunState, is_short_dir_of, lock_if_dead, read_control
from agent_preflight.runs.plan_file import planned_trials, trial_folder
from preflight_proxy.base.clock import SystemClock

SWEPT_FILE = "swept.json"
"""In a run's folder: the sub-keys that sweeps verified as gone, and what OpenRouter had counted for each."""
KEY_PREFIX = "agent-preflight:"
"""The beginning of each sub-key's name; other keys that a plan names are not deleted."""
DAY_S = 86_400.0
IS_LIVE = "it is live"
NO_LOCK = "it has no lock that can be opened, so nobody knows whether it is over"
SWEEP_FIRST = "something of it may be left elsewhere, and is found by this folder: sweep first"


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders of all runs in a directory; trials that are runs by themselves may lie one level deeper."""
    for folder in trial_dirs(runs_dir.absolute()):
        yield from _runs_in(folder)


def _runs_in(folder: Path) -> list[Path]:
    """Return the folder itself, or those of the trials in it that are runs by themselves."""
    inner = [] if _is_run(folder) else [trial for trial in trial_dirs(folder) if _is_run(trial)]
    return inner or [folder]


def _is_run(folder: Path) -> bool:
    return (folder / LOCK_NAME).exists() or (folder / "plan.json").exists()


class Leftovers(msgspec.Struct, frozen=True):
    """What a run may have outside its folder.

    Attributes:
        run_dir: Absolute.
        keys: Names of sub-keys that are not verified as gone.
        control: Where its sockets are, if their directory is still there or its file is.
    """

    run_dir: Path
    keys: tuple[str, ...] = ()
    control: RunControl | None = None

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.keys) or self.control is not None


def leftovers_of(run_dir: Path) -> Leftovers:
    """Return what a run may have outside its folder."""
    control = read_control(run_dir)
    if control is not None and not _is_short_dir(control, run_dir):
        control = None
    return Leftovers(run_dir, tuple(_remaining_keys(run_dir)), control)


def _remaining_keys(run_dir: Path) -> Iterator[str]:
    recorded = swept_keys(run_dir)
    trials = planned_trials(run_dir)
    latest = {trial.alias: trial.key_name for trial in trials}
    for trial in trials:
        deleted = latest[trial.alias] == trial.key_name and _is_key_deleted(run_dir, trial.alias)
        if trial.key_name.startswith(KEY_PREFIX) and trial.key_name not in recorded and not deleted:
            yield trial.key_name


def _is_key_deleted(run_dir: Path, alias: str) -> bool:
    """Return whether the trial's summary says that its latest sub-key was deleted, or never made."""
    match read_json_object(trial_folder(run_dir, alias), "summary.json"):
        case {"preflight": {"cleanup": {"sub_key": "ok"}}}:
            return True
        case {"preflight": {"ended_by": "provisioning", "cleanup": cleanup}}:
            return not cleanup
    return False


def swept_keys(run_dir: Path) -> Mapping[str, Any]:
    """Return what sweeps recorded of each sub-key that is gone, by name."""
    keys = (read_json_object(run_dir, SWEPT_FILE) or {}).get("keys")
    return keys if isinstance(keys, dict) else {}


def _is_short_dir(control: RunControl, run_dir: Path) -> bool:
    """Return whether this is the run's directory of sockets. No other directory that the file names may be removed."""
    directory = control.directory
    if control.socket.parent != directory or not is_short_dir_of(directory.name, run_dir.resolve()):
        return False
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


class OldRun(msgspec.Struct, frozen=True):
    """A run's folder that has not changed for a long time.

    Attributes:
        age_s: Since the last change of anything directly in it.
        keep: Why it must stay; None if it may be removed.
    """

    path: Path
    age_s: float
    keep: str | None


def old_runs(runs_dir: Path, older_than_s: float) -> list[OldRun]:
    """Return the folders in a directory that are older than an age, the oldest first, without live runs."""
    now_s = SystemClock().epoch_s()
    runs: list[OldRun] = []
    for folder in trial_dirs(runs_dir.resolve()):
        age_s = now_s - _changed_s(folder)
        if age_s > older_than_s:
            with _reason_to_keep(folder) as reason:
                if reason != IS_LIVE:
                    runs.append(OldRun(folder, age_s, reason))
    return sorted(runs, key=lambda run: -run.age_s)


def remove_run(folder: Path) -> bool:
    """Remove a run's folder, unless there is a reason to keep it. Returns True only if it is verified as gone."""
    with _reason_to_keep(folder) as reason:
        if reason is None:
            shutil.rmtree(folder, ignore_errors=True)  # follows no link, whatever an agent made in there
    return not os.path.lexists(folder)


@contextmanager
def _reason_to_keep(folder: Path) -> Iterator[str | None]:
    """Yield why a folder must stay, None if it may be removed. Its dead runs are locked during the context."""
    runs = _runs_in(folder)
    with ExitStack() as locks:
        states = {locks.enter_context(lock_if_dead(run)) for run in runs}
        if RunState.LIVE in states:
            yield IS_LIVE
        elif RunState.UNREADABLE in states:
            yield NO_LOCK
        else:
            yield SWEEP_FIRST if any(map(leftovers_of, runs)) else None


def _changed_s(folder: Path) -> float:
    """Return when anything directly in a folder last changed; deeper files are the agents'."""
    times = [folder.lstat().st_mtime]
    with os.scandir(folder) as entries:
        times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)
