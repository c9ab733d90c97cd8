"""How a run stands, for people: a line for each trial. What is known of a trial is found out in `trial_status`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, latest_run
from agent_preflight.base.tables import DECIMALS, TableColumn, TextTable, duration, money, show
from agent_preflight.base.usd import dollars, usd
from agent_preflight.runs.choice import run_to_read
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
from preflight_proxy.core.errors import ConfigError

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
"""What `summarise_model` tells, in the order in which scripts print it."""
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
    """Return how one trial stands, in the words that old scripts read.

    Keys: `ROW_KEYS`, in that order.
    ``status`` is ``DONE``, ``ERR``, ``running`` or ``pending``; a corrupt summary counts as none.
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
    """Print one line for each trial of a run, how many have ended, and beside or beneath what is to be known of each."""
    show(*_table(read_run(Path(run_dir))))


def status_parts(run_dir: Path) -> Iterator[TextTable | str]:
    """Yield what there is to print of a run."""
    found = read_run(run_dir)
    yield f"Run: {run_dir.name}{' (running)' if found.live else ''}"
    yield ""
    yield from _table(found)


def status_main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print how one run stands: the named one, else the only live one, else the latest; say so if there is none."""
    _told(run_id, runs_dir)


main = status_main


def _told(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> int:
    """Print how a run stands; return 1 if there is no run of that name, else 0."""
    try:
        run_dir = run_to_read(run_id, runs_dir)
    except ConfigError as exc:
        show(str(exc))
        return 1
    show(*(status_parts(run_dir) if run_dir is not None else [f"No runs found in {runs_dir}/"]))
    return 0


def _table(found: RunTrials) -> Iterator[TextTable | str]:
    if not found.trials:
        yield (
            "It has no trials yet: its checks are still going on."
            if found.live
            else "It has no trials: none was begun."
        )
        return
    yield TextTable(
        COLUMNS,
        [_cells(trial) for trial in found.trials],
        total=_total(found) if len(found.trials) > 1 else (),
        notes=[trial.note for trial in found.trials],
    )
    yield ""
    yield f"{found.complete}/{len(found.trials)} complete"
    if not found.live and (line := unverified_line([trial.cleanup for trial in found.trials])) is not None:
        yield line
    if found.trouble is not None:
        yield f"Costs are those of the summaries: {found.trouble}"


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


def _total(found: RunTrials) -> tuple[str, ...]:
    calls = [trial.calls for trial in found.trials if trial.calls is not None]
    reserved = [trial.pending_pusd for trial in found.trials if trial.pending_pusd is not None]
    figures = {
        "trial": "TOTAL",
        "calls": _count(sum(calls) if calls else None),
        "cost": _amount(found.posted_pusd),
        "reserved": _amount(sum(reserved) if reserved else None),
    }
    return tuple(figures.get(column.title, "") for column in COLUMNS)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _amount(amount_pusd: int | None) -> str:
    return "-" if amount_pusd is None else money(amount_pusd)


if __name__ == "__main__":
    sys.exit(_told(*sys.argv[1:2]))
