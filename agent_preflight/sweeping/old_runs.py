"""Finds and removes the folders of old runs. Live runs stay, and no link is followed."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent_preflight.artifacts import trial_dirs
from agent_preflight.runs.lock import LOCK_NAME, RunState, lock_if_dead
from agent_preflight.sweeping.leftovers import leftovers_of

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run's folder that has not changed for long.

    Attributes:
        age_s: Since the last change of anything directly in it.
        keep: Why it is not to be removed; None if it may be.
    """

    path: Path
    age_s: float
    keep: str | None


def old_runs(runs_dir: Path, older_than_s: float, now: datetime | None = None) -> list[OldRun]:
    """Return the folders in a directory that are older than an age, the oldest first, without live runs.

    Args:
        runs_dir: The directory; links in it are ignored.
        older_than_s: The age.
        now: The present if None.
    """
    at_s = (now or datetime.now(UTC)).timestamp()
    runs: list[OldRun] = []
    for folder in trial_dirs(runs_dir.resolve()):
        age_s = at_s - _changed_s(folder)
        if age_s > older_than_s:
            with ExitStack() as locks:
                states = {locks.enter_context(lock_if_dead(run)) for run in _runs_in(folder)}
                if RunState.LIVE not in states:
                    runs.append(OldRun(folder, age_s, _reason_to_keep(folder, states)))
    return sorted(runs, key=lambda run: -run.age_s)


def remove_run(folder: Path) -> bool:
    """Remove a run's folder, unless it is live or must be kept. Returns True only if it is verified as gone."""
    with ExitStack() as locks:
        states = {locks.enter_context(lock_if_dead(run)) for run in _runs_in(folder)}
        if states != {RunState.DEAD} or _reason_to_keep(folder, states) is not None:
            return False
        shutil.rmtree(folder, ignore_errors=True)  # follows no link, whatever an agent made in there
    return not os.path.lexists(folder)


def _runs_in(folder: Path) -> list[Path]:
    """Return the folder itself, or the trials in it that are runs by themselves."""
    inner = (
        [] if (folder / LOCK_NAME).exists() else [each for each in trial_dirs(folder) if (each / LOCK_NAME).exists()]
    )
    return inner or [folder]


def _reason_to_keep(folder: Path, states: set[RunState]) -> str | None:
    if states != {RunState.DEAD}:
        return "it has no lock that can be opened, so nobody knows whether it is over"
    if any(leftovers_of(run) for run in _runs_in(folder)):
        return "something of it may be left elsewhere, and is found by this folder: sweep first"
    return None


def _changed_s(folder: Path) -> float:
    """Return when anything directly in a folder last changed; deeper files are the agents'."""
    times = [folder.lstat().st_mtime]
    with os.scandir(folder) as entries:
        times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)
