"""The status table of a run, for people. `python -m agent_preflight.status [RUN_ID]` prints it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, latest_run
from agent_preflight.base.tables import TextTable, show, table_of
from agent_preflight.base.usd import usd
from agent_preflight.runs.choice import print_run
from agent_preflight.runs.event_log import read_events
from agent_preflight.runs.folder import is_live
from agent_preflight.runs.status import (
    TRIAL_COLUMNS,
    RunStatus,
    budget_line,
    container_running,
    read_run,
    read_trial,
)
from agent_preflight.runs.trial_state import unverified_line

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
    show(*_table(read_run(Path(run_dir))))


def status_parts(run_dir: Path) -> Iterator[TextTable | str]:
    """Yield the tables and lines that show the status of a run.

    Args:
        run_dir: The run's folder.
    """
    run = read_run(run_dir)
    yield f"Run: {run_dir.name}{' (running)' if run.live else ''}"
    yield ""
    yield from _table(run)


def status_main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the status of one run. Prints a line that says so if there is no such run.

    Args:
        run_id: The run's name. None means the only live run, else the latest.
        runs_dir: The folder that has the runs.
    """
    print_run(run_id, runs_dir, status_parts)


main = status_main
"""The same function as `status_main`."""


def _table(run: RunStatus) -> Iterator[TextTable | str]:
    if not run.trials:
        yield (
            "It has no trials yet: its checks are still going on." if run.live else "It has no trials: none was begun."
        )
        return
    notes = [trial.note for trial in run.trials]
    yield table_of(TRIAL_COLUMNS, run.trials, notes, with_total=len(run.trials) > 1)
    yield ""
    yield f"{run.complete}/{len(run.trials)} complete"
    if not run.live and (line := unverified_line([trial.cleanup for trial in run.trials])) is not None:
        yield line
    if run.trouble is not None:
        yield f"Costs are those of the summaries: {run.trouble}"


if __name__ == "__main__":
    sys.exit(print_run(next(iter(sys.argv[1:]), None), RUNS_DIR, status_parts))
