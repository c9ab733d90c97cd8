"""The status table of a run, for people. `python -m agent_preflight.status [RUN_ID]` prints it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, latest_run
from agent_preflight.base.tables import DECIMALS, TableColumn, TextTable, duration, money, show
from agent_preflight.base.usd import dollars, usd
from agent_preflight.runs.choice import print_run
from agent_preflight.runs.lock import is_live
from agent_preflight.runs.trial_state import unverified_line
from agent_preflight.runs.trial_status import (
    RunTrials,
    TrialStatus,
    budget_line,
    container_running,
    read_events,
    read_run,
    read_trial,
)

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

ROW_KEYS = (
    *("alias", "status", "events", "tool_calls", "cost", "duration_s", "started_at"),
    *("error", "budget", "snapshots", "cache_hit_rate", "running"),
)
"""The keys of `summarise_model`, in the order in which scripts print them."""
COLUMNS = (
    TableColumn("trial"),
    TableColumn("model", spare=7),
    TableColumn("status"),
    TableColumn("calls", right=True),
    TableColumn("refused", right=True, spare=3),
    TableColumn("tools", right=True, spare=4),
    TableColumn("events", right=True, spare=5),
    TableColumn("cost", right=True),
    TableColumn("reserved", right=True),
    TableColumn("limit", right=True),
    TableColumn("cached", right=True, spare=6),
    TableColumn("time", right=True, spare=2),
)


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
    row = {
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
    return {key: row[key] for key in ROW_KEYS}


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


def _table(run: RunTrials) -> Iterator[TextTable | str]:
    if not run.trials:
        yield (
            "It has no trials yet: its checks are still going on." if run.live else "It has no trials: none was begun."
        )
        return
    yield TextTable(
        COLUMNS,
        [_cells(trial) for trial in run.trials],
        total=_total(run) if len(run.trials) > 1 else (),
        notes=[trial.note for trial in run.trials],
    )
    yield ""
    yield f"{run.complete}/{len(run.trials)} complete"
    if not run.live and (line := unverified_line([trial.cleanup for trial in run.trials])) is not None:
        yield line
    if run.trouble is not None:
        yield f"Costs are those of the summaries: {run.trouble}"


def _cells(trial: TrialStatus) -> tuple[str, ...]:
    return (
        trial.alias,
        trial.model_id or "-",
        trial.status,
        _count(trial.calls),
        _count(trial.refused),
        f"{trial.tool_calls:,}",
        f"{trial.events_count:,}",
        _amount(trial.posted_pusd),
        _amount(trial.pending_pusd),
        "-" if trial.limit_pusd is None else dollars(trial.limit_pusd, DECIMALS),
        f"{trial.cache_hit_rate * 100:.0f}%" if trial.cache_hit_rate else "-",
        "-" if trial.duration_s is None else duration(trial.duration_s),
    )


def _total(run: RunTrials) -> tuple[str, ...]:
    calls = [trial.calls for trial in run.trials if trial.calls is not None]
    reserved = [trial.pending_pusd for trial in run.trials if trial.pending_pusd is not None]
    figures = {
        "trial": "TOTAL",
        "calls": _count(sum(calls) if calls else None),
        "cost": _amount(run.posted_pusd),
        "reserved": _amount(sum(reserved) if reserved else None),
    }
    return tuple(figures.get(column.title, "") for column in COLUMNS)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _amount(amount_pusd: int | None) -> str:
    return "-" if amount_pusd is None else money(amount_pusd)


if __name__ == "__main__":
    sys.exit(print_run(next(iter(sys.argv[1:]), None), RUNS_DIR, status_parts))
