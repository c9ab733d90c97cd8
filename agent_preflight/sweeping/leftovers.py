"""Reads what a run may have outside its folder: sub-keys, a directory of sockets, a proxy (C15, what a sweep removes).

An agent may have written there, so names and paths count only if they have the form of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object, trial_dirs
from agent_preflight.runs.control_file import RunControl, is_short_dir_of, read_control
from agent_preflight.runs.lock import LOCK_NAME
from agent_preflight.runs.plan_file import planned_trials, trial_folder

SWEPT_FILE = "swept.json"
"""In a run's folder: the sub-keys that sweeps verified as gone, and what OpenRouter had counted for each."""
KEY_PREFIX = "agent-preflight:"
"""Each sub-key's name begins so; other keys that a plan names are not deleted."""


@dataclass(frozen=True, slots=True)
class Leftovers:
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


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders of all runs in a directory; trials that are runs by themselves may lie one level deeper."""
    for folder in trial_dirs(runs_dir.absolute()):
        inner = [] if _is_run(folder) else [each for each in trial_dirs(folder) if _is_run(each)]
        yield from inner or [folder]


def _is_run(folder: Path) -> bool:
    return (folder / LOCK_NAME).exists() or (folder / "plan.json").exists()


def leftovers_of(run_dir: Path) -> Leftovers:
    """Return what a run may have outside its folder."""
    control = read_control(run_dir)
    if control is not None and not _is_short_dir(control, run_dir):
        control = None
    return Leftovers(run_dir, tuple(_owed_keys(run_dir)), control)


def _owed_keys(run_dir: Path) -> Iterator[str]:
    recorded = swept_keys(run_dir)
    trials = planned_trials(run_dir)
    latest = {trial.alias: trial.key_name for trial in trials}
    for trial in trials:
        deleted = latest[trial.alias] == trial.key_name and _saw_key_deleted(run_dir, trial.alias)
        if trial.key_name.startswith(KEY_PREFIX) and trial.key_name not in recorded and not deleted:
            yield trial.key_name


def _saw_key_deleted(run_dir: Path, alias: str) -> bool:
    match read_json_object(trial_folder(run_dir, alias), "summary.json"):
        case {"preflight": {"cleanup": {"sub_key": "ok"}}}:
            return True
        case {"preflight": {"ended_by": "provisioning", "cleanup": cleanup}}:
            return not cleanup  # no key was ever made
    return False


def swept_keys(run_dir: Path) -> Mapping[str, Any]:
    """Return what sweeps recorded of each sub-key that is gone, by name."""
    keys = (read_json_object(run_dir, SWEPT_FILE) or {}).get("keys")
    return keys if isinstance(keys, dict) else {}


def _is_short_dir(control: RunControl, run_dir: Path) -> bool:
    """Whether this is the run's directory of sockets: no other directory that the file names may be removed."""
    directory = control.directory
    if control.socket.parent != directory or not is_short_dir_of(directory.name, run_dir.resolve()):
        return False
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
