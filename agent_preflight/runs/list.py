"""The list of runs in a folder: state, complete trials, cost and age of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, begun_at_s, run_dirs, trial_dirs
from agent_preflight.base.tables import TableColumn, TextTable, duration, money
from agent_preflight.runs.lock import LOCK_NAME
from agent_preflight.runs.trial_status import RunTrials, exact_or_none, read_run

COLUMNS = (
    TableColumn("run"),
    TableColumn("status"),
    TableColumn("trials", right=True),
    TableColumn("cost", right=True),
    TableColumn("age", right=True),
)
WORST_FIRST = ("lost", "interrupted", "stopped", "failed")
"""Ends of trials that decide the status of a whole run; without one of them, it is done."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run at one moment.

    Attributes:
        run_dir: Its folder.
        status: `running`; `not started`, where no trial was planned; `incomplete`, where some never began; else the worst
            ending of its trials: `lost`, `interrupted`, `stopped`, `failed` or `done`.
        complete: Trials that have ended and were not cut off.
        trials: All of them.
        posted_pusd: What they have cost; None if no cost is known.
        begun_at_s: When it began, or was last resumed; seconds since the epoch.
        trouble: Why its ledger cannot be read; None if it can, or if there is none.
    """

    run_dir: Path
    status: str
    complete: int
    trials: int
    posted_pusd: int | None
    begun_at_s: float
    trouble: str | None = None

    def to_json(self, now_s: float) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "run_id": self.run_dir.name,
            "status": self.status,
            "ended": self.complete,
            "trials": self.trials,
            "posted_usd": exact_or_none(self.posted_pusd),
            "begun_at": datetime.fromtimestamp(self.begun_at_s, UTC).isoformat(),
            "age_s": round(max(now_s - self.begun_at_s, 0.0), 3),
            "run_dir": str(self.run_dir),
        }


def list_runs(runs_dir: str | Path = RUNS_DIR) -> list[RunStatus]:
    """Return the state of all runs in a folder, the newest first. Other folders are left out."""
    return [_status(run) for run in run_dirs(runs_dir) if _is_run(run)]


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's. Runs of older versions have neither plan nor lock, but trials."""
    if any((folder / name).is_file() for name in ("plan.json", LOCK_NAME)):
        return True
    return any(
        (trial / name).is_file() for trial in trial_dirs(folder) for name in ("summary.json", "events.jsonl", LOCK_NAME)
    )


def _status(run_dir: Path) -> RunStatus:
    run = read_run(run_dir)
    begun_s = begun_at_s(run_dir)
    return RunStatus(run_dir, _word(run), run.complete, len(run.trials), run.posted_pusd, begun_s, run.trouble)


def _word(run: RunTrials) -> str:
    if run.live:
        return "running"
    if not run.trials:
        return "not started"
    words = {trial.status for trial in run.trials}
    worst = next((word for word in WORST_FIRST if word in words), None)
    return worst or ("incomplete" if "pending" in words else "done")


def runs_table(runs: Sequence[RunStatus]) -> TextTable:
    """Return the table of some runs."""
    now_s = datetime.now(UTC).timestamp()
    return TextTable(
        COLUMNS,
        [
            (
                run.run_dir.name,
                run.status,
                f"{run.complete}/{run.trials}",
                "-" if run.posted_pusd is None else money(run.posted_pusd),
                duration(max(now_s - run.begun_at_s, 0.0)),
            )
            for run in runs
        ],
        notes=[run.trouble or "" for run in runs],
    )
