"""The state of runs and their trials, read from their folders and ledgers, and its tables.

It can be read during a run, after it, and for runs of older versions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from agent_preflight.artifacts import (
    RUNS_DIR,
    begun_at_s,
    number,
    read_json_object,
    read_start,
    run_dirs,
    trial_dirs,
)
from agent_preflight.base.tables import ComputedColumn, TextTable, duration, money, table_of
from agent_preflight.base.usd import exact, pusd
from agent_preflight.runs.costs import accounts_of
from agent_preflight.runs.event_log import EventFacts, read_events, seconds_between, text_or_none
from agent_preflight.runs.folder import LOCK_NAME, is_live
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials, trial_folder
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.pricing.fits import fits_text
from preflight_proxy.core.terminal import plain

BUDGET_BYTES_MAX = 4096
UNFINISHED = ("pending", "running")
"""Statuses of trials that have not ended."""
COMPLETE = ("done", "spent", "ejected", "failed", "stopped")
ENDINGS = (*COMPLETE, "interrupted", "lost")
WORST_FIRST = ("lost", "interrupted", "stopped", "failed")
"""Statuses of trials that decide the status of the run; without one of them, it is done."""
OF_ACCOUNT = ("limit_pusd", "posted_pusd", "pending_pusd", "calls", "refused", "fits_tokens", "fits_model")
"""Figures of a trial that come from its account, if the ledger has it."""


class TrialStatus(msgspec.Struct, frozen=True):
    """One trial at one moment. Unknown values are None.

    Attributes:
        status: `pending`, `running`, or one of `ENDINGS`; `lost` if its runner died before its end.
        limit_pusd: Its budget.
        posted_pusd: What its calls have cost, from the ledger if there is one.
        pending_pusd: What is reserved for calls whose cost is not known yet.
        calls: Calls that have a cost.
        refused: Calls that were refused.
        fits_tokens: Tokens of the largest new prompt that fits, for `fits_model`; None before its first call, and without a ledger.
        events_count: Events that the agent printed; before its end: lines of events.jsonl.
        started_at: UTC, ISO 8601.
        duration_s: Seconds from its start to its end, or to now.
        error: Why it failed.
        notes: More about its end.
        budget: The first line of budget.txt, if there is no ledger.
        cleanup: The result of each step of its clean-up, once it has ended.
    """

    alias: str
    model_id: str | None = None
    status: str = "pending"
    limit_pusd: int | None = None
    posted_pusd: int | None = None
    pending_pusd: int | None = None
    calls: int | None = None
    refused: int | None = None
    tool_calls: int = 0
    events_count: int = 0
    started_at: str | None = None
    duration_s: float | None = None
    cache_hit_rate: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    budget: str | None = None
    cleanup: Mapping[str, Any] = {}
    fits_tokens: int | None = None
    fits_model: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status not in UNFINISHED

    @property
    def note(self) -> str:
        """Its error and notes in one line, else its budget line; while it runs, the largest new prompt that fits."""
        note = end_note(self.error, self.notes) or self.budget or ""
        return note if self.ended or note else fits_text(self.fits_model, self.fits_tokens)

    def to_json(self) -> dict[str, Any]:
        """Return it for machines, with the keys of summary.json; amounts are exact decimal text."""
        values = asdict(self)
        del values["cleanup"]
        return {
            name.replace("_pusd", "_usd"): exact_or_none(value) if name.endswith("_pusd") else value
            for name, value in values.items()
        }


class RunStatus(msgspec.Struct, frozen=True):
    """One run at one moment.

    Attributes:
        run_dir: Its folder.
        live: A process holds the run's lock, or one of its trials runs.
        trials: In the order of the plan; others after them.
        trouble: Why its ledger cannot be read; None if it can, or if there is none.
    """

    run_dir: Path
    live: bool
    trials: tuple[TrialStatus, ...]
    trouble: str | None = None

    @property
    def status(self) -> str:
        """`running`; `not started` without trials; the worst of `WORST_FIRST`; `incomplete` if a trial never began; else `done`."""
        if self.live:
            return "running"
        if not self.trials:
            return "not started"
        words = {trial.status for trial in self.trials}
        worst = next((word for word in WORST_FIRST if word in words), None)
        return worst or ("incomplete" if "pending" in words else "done")

    @property
    def posted_pusd(self) -> int | None:
        """What all trials have cost; None if no cost is known."""
        costs_pusd = [trial.posted_pusd for trial in self.trials if trial.posted_pusd is not None]
        return sum(costs_pusd) if costs_pusd else None

    @property
    def complete(self) -> int:
        """How many trials ended and were not interrupted or lost."""
        return sum(trial.status in COMPLETE for trial in self.trials)

    def age_s(self, now_s: float) -> float:
        """Return the seconds since it began or was last resumed, at least 0."""
        return max(now_s - begun_at_s(self.run_dir), 0.0)

    def to_json(self, now_s: float) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "run_id": self.run_dir.name,
            "status": self.status,
            "ended": self.complete,
            "trials": len(self.trials),
            "posted_usd": exact_or_none(self.posted_pusd),
            "begun_at": datetime.fromtimestamp(begun_at_s(self.run_dir), UTC).isoformat(),
            "age_s": round(self.age_s(now_s), 3),
            "run_dir": str(self.run_dir),
        }


def list_runs(runs_dir: str | Path = RUNS_DIR) -> list[RunStatus]:
    """Return the state of all runs in a folder, the newest first. Other folders are left out."""
    return [read_run(run) for run in run_dirs(runs_dir) if is_run(run)]


def runs_table(runs: Sequence[RunStatus]) -> TextTable:
    """Return the table of some runs."""
    now_s = datetime.now(UTC).timestamp()
    columns: Sequence[ComputedColumn[RunStatus]] = (
        ComputedColumn("run", cell=lambda run: run.run_dir.name),
        ComputedColumn("status", cell=lambda run: run.status),
        ComputedColumn("trials", right=True, cell=lambda run: f"{run.complete}/{len(run.trials)}"),
        ComputedColumn("cost", right=True, cell=lambda run: "-" if run.posted_pusd is None else money(run.posted_pusd)),
        ComputedColumn("age", right=True, cell=lambda run: duration(run.age_s(now_s))),
    )
    return table_of(columns, runs, [run.trouble or "" for run in runs])


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run's. Runs of older versions have neither plan nor lock, but trials."""
    of_trials = (trial / name for trial in trial_dirs(folder) for name in ("summary.json", "events.jsonl", LOCK_NAME))
    return any(path.is_file() for path in (folder / "plan.json", folder / LOCK_NAME, *of_trials))


def read_run(run_dir: Path) -> RunStatus:
    """Return the state of a run, with the trials that have a folder and those that are only planned."""
    accounts, trouble = _accounts(run_dir)
    live = is_live(run_dir)
    trials = tuple(
        with_account(read_trial(folder, plan, live=live or is_live(folder)), accounts.get(alias))
        for alias, folder, plan in trials_of(run_dir)
    )
    return RunStatus(run_dir, live or any(trial.status == "running" for trial in trials), trials, trouble)


def trials_of(run_dir: Path) -> Iterator[tuple[str, Path, PlannedTrial | None]]:
    """Yield alias, folder and plan of each trial that has a folder or is planned: in the order of the plan, others after them."""
    plan = {trial.alias: trial for trial in planned_trials(run_dir)}
    single = len(plan) == 1 and trial_folder(run_dir, next(iter(plan))) == run_dir
    folders = {run_dir.name: run_dir} if single else {folder.name: folder for folder in trial_dirs(run_dir)}
    for alias in dict.fromkeys([*plan, *folders]):
        place = run_dir / alias
        folder = folders.get(alias, Path(os.devnull, alias) if place.is_symlink() else place)  # a link is not followed
        own_plan = next((trial for trial in planned_trials(folder) if trial.alias == alias), None)  # a run by itself
        yield alias, folder, plan.get(alias) or own_plan


def with_account(status: TrialStatus, account: Account | None) -> TrialStatus:
    """Return a trial's state with the figures of its account in the ledger, if it has one."""
    if account is None:
        return status
    return replace(status, **{name: getattr(account, name) for name in OF_ACCOUNT}, budget=None)


def _accounts(run_dir: Path) -> tuple[dict[str, Account], str | None]:
    """Return the ledger's accounts, and why it cannot be read; no accounts for runs without a ledger."""
    try:
        return accounts_of(run_dir), None
    except ConfigError:
        return {}, None
    except OperatingError as exc:
        return {}, str(exc)


def read_trial(folder: Path, plan: PlannedTrial | None = None, *, live: bool) -> TrialStatus:
    """Return a trial's state, read from its folder, which may not exist. A corrupt summary counts as missing."""
    if (summary := read_json_object(folder, "summary.json")) is not None:
        return status_of_summary(folder.name, summary)
    return unfinished_status(folder, read_events(folder), plan, live=live)


def unfinished_status(folder: Path, events: EventFacts, plan: PlannedTrial | None, *, live: bool) -> TrialStatus:
    """Return the state of a trial without a summary."""
    status = _unfinished_word(folder, events, plan, live=live)
    return TrialStatus(
        folder.name,
        plan.model_id if plan else None,
        status=status,
        limit_pusd=_pusd(plan.budget_usd) if plan else None,
        tool_calls=events.tool_calls,
        events_count=events.count,
        started_at=events.started_at,
        duration_s=seconds_between(events.started_at, datetime.now(UTC).isoformat())
        if status == "running"
        else events.duration_s,
        budget=budget_line(folder),
    )


def _unfinished_word(folder: Path, events: EventFacts, plan: PlannedTrial | None, *, live: bool) -> str:
    """Return the status of a trial without a summary. For runs without a plan (older versions), its container decides."""
    if live:
        return "running" if events.count else "pending"
    if plan is not None:
        return "lost" if events.count else "pending"
    return "running" if container_running(folder.name, folder.parent) else "pending"


def status_of_summary(alias: str, summary: Mapping[str, Any]) -> TrialStatus:
    """Return the state of a trial that has ended, from its summary. Values of the wrong type count as missing."""
    block, cache = _object(summary.get("preflight")), _object(summary.get("cache"))
    error, notes = summary.get("error"), block.get("notes")
    return TrialStatus(
        alias,
        text_or_none(summary.get("model_id")),
        status=_ending_word(error, block),
        limit_pusd=_pusd(block.get("limit_usd"), summary.get("budget_usd")),
        posted_pusd=_pusd(block.get("posted_usd"), summary.get("cost_usd")),
        pending_pusd=_pusd(block.get("pending_usd")),
        calls=int(number(block["calls"])) if "calls" in block else None,
        refused=int(number(block["refused"])) if "refused" in block else None,
        tool_calls=int(number(summary.get("tool_calls"))),
        events_count=int(number(summary.get("events_count"))),
        started_at=text_or_none(summary.get("started_at")),
        duration_s=float(number(summary.get("duration_s"))),
        cache_hit_rate=float(number(cache["hit_rate"])) if "hit_rate" in cache else None,
        error=None if error is None else str(error),
        notes=tuple(map(str, notes)) if isinstance(notes, list) else (),
        cleanup=_object(block.get("cleanup")),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def end_note(error: str | None, notes: Iterable[object]) -> str:
    """Return why a trial ended, in a line: its error, without the word that its status says, and its notes."""
    return "; ".join(filter(None, [(error or "").removeprefix("ejected: "), *map(str, notes)]))


def _ending_word(error: object, block: Mapping[str, Any]) -> str:
    """Return the status of an ended trial, one of `ENDINGS`. The `preflight` block is empty in older versions."""
    if block.get("ended_by") == "lost":
        return "lost"
    if (status := block.get("status")) in ENDINGS:
        return str(status)
    if not error:
        return "done"
    return "ejected" if str(error).startswith("ejected:") else "failed"


def container_running(alias: str, run_dir: str | Path | None = None) -> bool:
    """Return whether the container of an agent runs. False also if no engine answers.

    Args:
        alias: The trial's name, compared as a whole by the labels of containers.
        run_dir: Only the trial of the run in this folder; None for any run.
    """
    from agent_preflight.engine.client import on_engine  # loads an HTTP library, which most commands do not need
    from agent_preflight.engine.failure import DockerError

    labels: dict[str, str | None] = {"agent-preflight.trial": alias, "agent-preflight.role": "agent"}
    if run_dir is not None:
        labels["agent-preflight.dir"] = str(Path(run_dir).resolve())
    try:
        return bool(on_engine(lambda engine: engine.listed("containers", labels, running=True)))
    except DockerError:
        return False


def budget_line(folder: Path) -> str | None:
    """Return the first line of a trial's budget.txt; None if it has none."""
    for name in ("budget/budget.txt", "workspace/budget.txt"):
        if content := read_start(folder, name, BUDGET_BYTES_MAX):
            return plain(content.decode(errors="replace").split("\n", 1)[0]).strip()
    return None


def _pusd(*amounts: object) -> int | None:
    """Return the first valid amount: decimal text or a number of dollars."""
    for amount in amounts:
        if isinstance(amount, str | int | float) and not isinstance(amount, bool):
            with contextlib.suppress(ArithmeticError, ValueError):
                return pusd(str(amount))
    return None


def exact_or_none(amount_pusd: int | None) -> str | None:
    """Return an amount as exact decimal text; None for None."""
    return None if amount_pusd is None else exact(amount_pusd)
