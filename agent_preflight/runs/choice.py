"""Which run a command means: the named one, else the only live one, else, for reading commands, the latest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from agent_preflight.artifacts import RUNS_DIR, find_run, latest_run, run_dirs
from agent_preflight.base.tables import Part, show
from agent_preflight.runs.folder import is_live
from preflight_proxy.core.errors import ConfigError

NAMED_MAX = 3
"""How many runs an error names."""


def run_to_read(run_id: str | None, runs_dir: str | Path = RUNS_DIR) -> Path | None:
    """Return the folder of the run that a reading command means; None if no run is named and there is none.

    Args:
        run_id: Its name. Without one, the only live run is taken, else the latest.
        runs_dir: The folder of runs.

    Raises:
        ConfigError: There is no run of that name; the text names the latest.
    """
    if run_id is not None:
        return named_run(run_id, runs_dir)
    live = live_runs(runs_dir)
    return live[0] if len(live) == 1 else latest_run(runs_dir)


def print_run(run_id: str | None, runs_dir: str | Path, parts: Callable[[Path], Iterable[Part]]) -> int:
    """Print the parts of the run that a reading command means. Return 1 if there is no run of that name, else 0."""
    try:
        run_dir = run_to_read(run_id, runs_dir)
    except ConfigError as exc:
        show(str(exc))
        return 1
    show(*(parts(run_dir) if run_dir is not None else [f"No runs found in {runs_dir}/"]))
    return 0


def run_to_change(run_id: str | None, runs_dir: str | Path = RUNS_DIR) -> Path:
    """Return the folder of the run that `stop` or `top-up` means: the named one, else the only live one.

    Raises:
        ConfigError: There is no run of that name; or none is named, and not exactly one is live.
    """
    if run_id is not None:
        return named_run(run_id, runs_dir)
    live = live_runs(runs_dir)
    if len(live) == 1:
        return live[0]
    if live:
        raise ConfigError(f"Several runs are live in {_place(runs_dir)}, so name one: {_listed(live)}.")
    raise ConfigError(f"No run is live in {_place(runs_dir)}, so there is nothing to change.{_latest(runs_dir)}")


def named_run(run_id: str, runs_dir: str | Path = RUNS_DIR) -> Path:
    """Return the folder of a run.

    Raises:
        ConfigError: There is none of that name; the text names the latest.
    """
    run_dir = find_run(run_id, runs_dir)
    if run_dir is None:
        raise ConfigError(f'There is no run "{run_id}" in {_place(runs_dir)}.{_latest(runs_dir)}')
    return run_dir


def live_runs(runs_dir: str | Path = RUNS_DIR) -> list[Path]:
    """Return the folders of the live runs, the newest first."""
    return [run for run in run_dirs(runs_dir) if is_live(run)]


def _latest(runs_dir: str | Path) -> str:
    newest = run_dirs(runs_dir)
    return (
        f" Latest: {_listed(newest[:NAMED_MAX])}."
        if newest
        else " There are no runs there; --runs-dir names another folder."
    )


def _listed(runs: list[Path]) -> str:
    return ", ".join(run.name for run in runs)


def _place(runs_dir: str | Path) -> str:
    return f"{str(runs_dir).rstrip('/')}/"
