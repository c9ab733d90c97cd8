"""The status table of a run, for people. `python -m agent_preflight.status [RUN_ID]` prints it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, latest_run
from agent_preflight.base.tables import Part, show
from agent_preflight.base.usd import usd
from agent_preflight.runs.choice import print_run
from agent_preflight.runs.event_log import read_events
from agent_preflight.runs.folder import is_live
from agent_preflight.runs.record import RunRecord, read_record
from agent_preflight.runs.status import (
    RunStatus,
    budget_line,
    container_running,
    read_trial,
)
from agent_preflight.runs.trial_state import unverified_line
from agent_preflight.views.run_table import figures_now, run_parts

__all__ = [
    "RUNS_DIR",
    "container_running",
    "latest_run",
    "main",
    "print_status_table",
    "status_main",
    "status_parts",
    "summarise_model",
]


def summarise_model(model_dir: str | Path) -> dict[str, Any]:
    """Return the status of one trial, in the words that old scripts read. A corrupt summary.json counts as a missing one.

    Args:
        model_dir: The trial's folder.

    Returns:
        A dict of `alias`; `status`, one of `DONE`, `ERR`, `running` and `pending`; `events`, the number of events; `tool_calls`;
        `cost` in dollars, 4 decimals, or None; `duration_s` in seconds or None; `started_at` (UTC, ISO 8601) or None; `error`
        or None; `budget`, the first line of budget.txt, or None; `snapshots`, the number of files `snapshot_*.py` in the workspace;
        `cache_hit_rate` as a fraction; `running`, a bool.
    """
    folder = Path(model_dir)
    known = read_trial(folder, live=is_live(folder.parent))
    return {
        "alias": known.alias,
        "status": ("ERR" if known.error else "DONE") if known.ended else known.status,
        "events": read_events(folder).count,
        "tool_calls": known.tool_calls,
        "cost": None if known.posted_pusd is None else round(float(usd(known.posted_pusd)), 4),
        "duration_s": known.duration_s,
        "started_at": known.started_at,
        "error": known.error,
        "budget": budget_line(folder),
        "snapshots": _count_snapshots(folder),
        "cache_hit_rate": known.cache_hit_rate or 0.0,
        "running": known.status == "running",
    }


def _count_snapshots(folder: Path) -> int:
    workspace = folder / "workspace"
    return 0 if workspace.is_symlink() else sum(1 for _ in workspace.glob("snapshot_*.py"))


def print_status_table(run_dir: str | Path) -> None:
    """Print the table of a run: a line for each trial, the number of trials that have ended, and notes.

    Args:
        run_dir: The run's folder.
    """
    show(*_table(read_record(Path(run_dir))))


def status_parts(run_dir: Path) -> Iterator[Part]:
    """Yield the tables and lines that show the status of a run.

    Args:
        run_dir: The run's folder.
    """
    record = read_record(run_dir)
    yield f"Run: {run_dir.name}{' (running)' if record.live else ''}"
    yield ""
    yield from _table(record)


def status_main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the status of one run. Prints a line that says so if there is no such run.

    Args:
        run_id: The run's name. None means the only live run, else the latest.
        runs_dir: The folder that has the runs.
    """
    print_run(run_id, runs_dir, status_parts)


main = status_main
"""The same function as `status_main`."""


def _table(record: RunRecord) -> Iterator[Part]:
    trials = tuple(trial.status for trial in record.trials)
    if not trials:
        yield (
            "It has no trials yet: its checks are still going on."
            if record.live
            else "It has no trials: none was begun."
        )
        return
    yield from run_parts(figures_now(record), each_trial=True)
    yield ""
    yield f"{RunStatus(record.run_dir, record.live, trials).complete}/{len(trials)} complete"
    if not record.live and (line := unverified_line([trial.cleanup for trial in trials])) is not None:
        yield line
    if record.trouble is not None:
        yield record.trouble


if __name__ == "__main__":
    sys.exit(print_run(next(iter(sys.argv[1:]), None), RUNS_DIR, status_parts))
