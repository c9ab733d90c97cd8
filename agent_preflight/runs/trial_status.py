"""The state of a run's trials, read from its folder and its ledger: during the run, after it, and for runs of older versions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import number, open_beneath, read_json_object, read_start, trial_dirs
from agent_preflight.base.terminal import plain
from agent_preflight.base.usd import exact, pusd
from agent_preflight.runs.costs import accounts_of
from agent_preflight.runs.lock import is_live
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials, trial_folder
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.rows import Account

BUDGET_BYTES_MAX = 4096
UNFINISHED = ("pending", "running")
"""Statuses of trials that have not ended."""
COMPLETE = ("done", "spent", "ejected", "failed", "stopped")
ENDINGS = (*COMPLETE, "interrupted", "lost")


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """One trial at one moment. Unknown values are None.

    Attributes:
        status: `pending`, `running`, or one of `ENDINGS`; `lost` if its runner died before its end.
        limit_pusd: Its budget.
        posted_pusd: What its calls have cost, from the ledger if there is one.
        pending_pusd: What is reserved for calls whose cost is not known yet.
        calls: Calls that have a cost.
        refused: Calls that were refused.
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
    cleanup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status not in UNFINISHED

    @property
    def note(self) -> str:
        """Its error and notes in one line, else its budget line."""
        return end_note(self.error, self.notes) or self.budget or ""

    def to_json(self) -> dict[str, Any]:
        """Return it for machines, with the keys of summary.json; amounts are exact decimal text."""
        return {
            "alias": self.alias,
            "model_id": self.model_id,
            "status": self.status,
            "limit_usd": exact_or_none(self.limit_pusd),
            "posted_usd": exact_or_none(self.posted_pusd),
            "pending_usd": exact_or_none(self.pending_pusd),
            "calls": self.calls,
            "refused": self.refused,
            "tool_calls": self.tool_calls,
            "events_count": self.events_count,
            "started_at": self.started_at,
            "duration_s": self.duration_s,
            "cache_hit_rate": self.cache_hit_rate,
            "error": self.error,
            "notes": list(self.notes),
            "budget": self.budget,
        }


@dataclass(frozen=True, slots=True)
class RunTrials:
    """The trials of a run.

    Attributes:
        live: A process holds the run's lock.
        trials: Sorted by alias.
        trouble: Why the ledger cannot be read; None if it can, or if there is none.
    """

    live: bool
    trials: tuple[TrialStatus, ...]
    trouble: str | None = None

    @property
    def posted_pusd(self) -> int | None:
        """What all have cost; None if no cost is costs_pusd."""
        costs_pusd = [trial.posted_pusd for trial in self.trials if trial.posted_pusd is not None]
        return sum(costs_pusd) if costs_pusd else None

    @property
    def complete(self) -> int:
        """How many ended and were not interrupted or lost."""
        return sum(trial.status in COMPLETE for trial in self.trials)


def read_run(run_dir: Path) -> RunTrials:
    """Return the state of a run's trials: those that have a folder, and those that are only planned."""
    plan = {trial.alias: trial for trial in planned_trials(run_dir)}
    accounts, trouble = _accounts(run_dir)
    live = is_live(run_dir)
    single = len(plan) == 1 and trial_folder(run_dir, next(iter(plan))) == run_dir
    folders = {run_dir.name: run_dir} if single else {folder.name: folder for folder in trial_dirs(run_dir)}
    trials = []
    for alias in sorted({*folders, *plan}):
        folder = folders.get(alias, run_dir / alias)
        own = next(
            (trial for trial in planned_trials(folder) if trial.alias == alias), None
        )  # it may be a run by itself
        status = read_trial(folder, plan.get(alias) or own, live=live or is_live(folder))
        trials.append(_with_account(status, accounts[alias]) if alias in accounts else status)
    return RunTrials(live or any(trial.status == "running" for trial in trials), tuple(trials), trouble)


def _accounts(run_dir: Path) -> tuple[dict[str, Account], str | None]:
    """Return the ledger's accounts, and why it cannot be read; no accounts for runs without a ledger."""
    try:
        return accounts_of(run_dir), None
    except ConfigError:
        return {}, None
    except OperatingError as exc:
        return {}, str(exc)


def read_trial(folder: Path, plan: PlannedTrial | None = None, *, live: bool) -> TrialStatus:
    """Return a trial's state, read from its folder. A corrupt summary counts as missing.

    Args:
        folder: The trial's; it may not exist.
        plan: Its plan, if its run has one.
        live: Its run is live.
    """
    if (summary := read_json_object(folder, "summary.json")) is not None:
        return _ended(folder.name, summary)
    events = read_events(folder)
    status = _unfinished_word(folder, events, plan, live=live)
    now = datetime.now(UTC).isoformat()
    return TrialStatus(
        folder.name,
        plan.model_id if plan else None,
        status=status,
        limit_pusd=_pusd(plan.budget_usd) if plan else None,
        tool_calls=events.tool_calls,
        events_count=events.count,
        started_at=events.started_at,
        duration_s=seconds_between(events.started_at, now) if status == "running" else events.duration_s,
        budget=budget_line(folder),
    )


def _unfinished_word(folder: Path, events: EventFacts, plan: PlannedTrial | None, *, live: bool) -> str:
    """Return the status of a trial without a summary. For runs without a plan (older versions), its container decides."""
    if live:
        return "running" if events.count else "pending"
    if plan is not None:
        return "lost" if events.count else "pending"
    return "running" if container_running(folder.name, folder.parent) else "pending"


def _ended(alias: str, summary: Mapping[str, Any]) -> TrialStatus:
    extra, cache = summary.get("preflight"), summary.get("cache")
    block: dict[str, Any] = extra if isinstance(extra, dict) else {}
    error, notes = summary.get("error"), block.get("notes")
    return TrialStatus(
        alias,
        text_or_none(summary.get("model_id")),
        status=ending_word(error, block),
        limit_pusd=_pusd(block.get("limit_usd"), summary.get("budget_usd")),
        posted_pusd=_pusd(block.get("posted_usd"), summary.get("cost_usd")),
        pending_pusd=_pusd(block.get("pending_usd")),
        calls=int(number(block["calls"])) if "calls" in block else None,
        refused=int(number(block["refused"])) if "refused" in block else None,
        tool_calls=int(number(summary.get("tool_calls"))),
        events_count=int(number(summary.get("events_count"))),
        started_at=text_or_none(summary.get("started_at")),
        duration_s=float(number(summary.get("duration_s"))),
        cache_hit_rate=float(number(cache.get("hit_rate"))) if isinstance(cache, dict) else None,
        error=None if error is None else str(error),
        notes=tuple(map(str, notes)) if isinstance(notes, list) else (),
        cleanup=cleanup if isinstance(cleanup := block.get("cleanup"), dict) else {},
    )


def end_note(error: str | None, notes: Iterable[object]) -> str:
    """Return why a trial ended, in a line: its error, without the word that its status says, and its notes."""
    return "; ".join(filter(None, [(error or "").removeprefix("ejected: "), *map(str, notes)]))


def ending_word(error: object, block: Mapping[str, Any]) -> str:
    """Return the status of an ended trial, one of `ENDINGS`.

    Args:
        error: That of its summary or result.
        block: The `preflight` object of its summary or result; empty in older versions.
    """
    if block.get("ended_by") == "lost":
        return "lost"
    if (status := block.get("status")) in ENDINGS:
        return str(status)
    if not error:
        return "done"
    return "ejected" if str(error).startswith("ejected:") else "failed"


def _with_account(status: TrialStatus, account: Account) -> TrialStatus:
    return replace(
        status,
        limit_pusd=account.limit_pusd,
        posted_pusd=account.posted_pusd,
        pending_pusd=account.pending_pusd,
        calls=account.calls,
        refused=account.refused,
        budget=None,
    )


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


@dataclass(slots=True)
class EventFacts:
    """Figures from a trial's event log, which its agent may have written."""

    count: int = 0
    tool_calls: int = 0
    started_at: str | None = None
    last_at: str | None = None
    elapsed_s: float | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first event to the last; None if they have no time."""
        return (
            float(number(self.elapsed_s))
            if self.elapsed_s is not None
            else seconds_between(self.started_at, self.last_at)
        )


def read_events(folder: Path) -> EventFacts:
    """Return the figures of a trial's event log. Incomplete lines are ignored."""
    facts, last = EventFacts(), b""
    for last in _event_lines(folder):
        facts.count += 1
        facts.tool_calls += b'"tool_execution_start"' in last and _record(last).get("type") == "tool_execution_start"
        if facts.count == 1:
            facts.started_at = text_or_none(_record(last).get("timestamp"))
    if facts.count:
        facts.last_at = text_or_none(_record(last).get("timestamp"))
        facts.elapsed_s = _record(last).get("elapsed_s")
    return facts


def _event_lines(folder: Path) -> Iterator[bytes]:
    try:
        with open_beneath(folder, "events.jsonl") as file:
            for line in file:
                if line.startswith(b"{") and line.rstrip().endswith(b"}"):
                    yield line
    except OSError:
        return


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two ISO 8601 times, at least 0; None if one of them is invalid."""
    try:
        moments = [datetime.fromisoformat(text or "") for text in (start, end)]
        return max((moments[1] - moments[0]).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def text_or_none(value: object) -> str | None:
    """Return a value that is text, else None."""
    return value if isinstance(value, str) else None
