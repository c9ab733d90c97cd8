"""Reads everything that is known about a run: plan, ledger, event logs, notices and summaries. A second read costs what is new.

A proxy and agents may be writing the files. What cannot be read is left out, and `RunRecord.trouble` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from agent_preflight.artifacts import begun_at_s, json_object, read_json_object, read_start
from agent_preflight.runs.call import Call, call_of
from agent_preflight.runs.costs import LEDGER, ledgers_of
from agent_preflight.runs.event_log import EventReader, epoch_s, text_or_none
from agent_preflight.runs.folder import is_live
from agent_preflight.runs.plan_file import PlannedTrial
from agent_preflight.runs.status import (
    RunStatus,
    TrialStatus,
    is_run,
    status_of_summary,
    trials_of,
    unfinished_status,
    with_account,
)
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.rows import Account, QuarantinedEndpoint
from preflight_proxy.core.terminal import plain
from preflight_proxy.ledger.reader import Snapshot, read_after

NOTICES_FILE = "notices.jsonl"
NOTICES_BYTES_MAX = 4 * 2**20
"""More than this of a run's notices is not read."""
NOTICE_CHARS_MAX = 400
SCORE_MAX = 1e15
"""A number that is further from 0 is no score: an agent may have chosen it so that no mean can be computed."""


class Score(msgspec.Struct, frozen=True, rename={"value": "score"}):
    """What a trial's output is worth.

    Attributes:
        value: By it models are ranked; a bool is 1 or 0. None if scoring failed; never 0 for that.
        success: Whether it counts as a success; None if scoring failed.
        kind: What the score was given as, `bool` or `number`.
        reason: Why scoring failed, or what of it was left out.
        details: What else was given.
        duration_s: Seconds that scoring took.
    """

    value: Annotated[float, msgspec.Meta(ge=-SCORE_MAX, le=SCORE_MAX)] | None
    success: bool | None = None
    kind: str | None = None
    reason: str | None = None
    details: Mapping[str, Any] | None = None
    duration_s: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return it as summary.json has it."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


class Notice(msgspec.Struct, frozen=True):
    """One line of notices.jsonl: what a person should know about a run. `trial` is None for the run itself."""

    at_s: float
    trial: str | None
    kind: str
    text: str


class TrialRecord(msgspec.Struct, frozen=True):
    """Everything that is known about one trial.

    Attributes:
        status: With the figures of its account, if the ledger has one.
        base: Alias of its model, which all repeats share.
        repeat: From 1; 0 in a run without repeats.
        state: The newest `preflight_state` of the runner; empty before the first.
        account: None without a ledger.
        summary: {} before its end.
        score: None if none is asked for, or before it is known.
        tools: When each tool call began (seconds since the epoch), and its name as plain text.
    """

    status: TrialStatus
    base: str
    repeat: int = 0
    state: str = ""
    account: Account | None = None
    summary: Mapping[str, Any] = {}
    score: Score | None = None
    tools: Sequence[tuple[float, str]] = ()
    last_event_at_s: float | None = None
    began_at_s: float | None = None
    ended_at_s: float | None = None

    @property
    def block(self) -> Mapping[str, Any]:
        """The block `preflight` of its summary; {} without one."""
        return _block(self.summary)


class RunRecord(msgspec.Struct, frozen=True, dict=True):
    """A run at one moment.

    Attributes:
        plan: Its plan.json; {} if there is none, or it cannot be read.
        live: A process holds the run's lock.
        status: As in `RunStatus`.
        begun_at_s: When it began, seconds since the epoch.
        trials: In the order of the plan; others after them.
        calls: All entries of its ledgers, by their numbers.
        notices: Oldest first.
        trouble: What could not be read, and what a person can do; None if all could.
    """

    run_dir: Path
    run_id: str
    plan: Mapping[str, Any]
    live: bool
    status: str
    begun_at_s: float
    tags: Mapping[str, str] = {}
    trials: tuple[TrialRecord, ...] = ()
    calls: Sequence[Call] = ()
    notices: Sequence[Notice] = ()
    quarantined: tuple[QuarantinedEndpoint, ...] = ()
    trouble: str | None = None

    @cached_property
    def calls_by_trial(self) -> Mapping[str, Sequence[Call]]:
        """The entries of each trial, in order."""
        grouped: dict[str, list[Call]] = {}
        for call in self.calls:
            grouped.setdefault(call.trial, []).append(call)
        return grouped


def read_record(run_dir: Path) -> RunRecord:
    """Return what is known about a run. Raises as `RecordReader`."""
    return RecordReader(run_dir).read()


class RecordReader:
    """Reads one run again and again; each `read` costs what was written since the one before.

    Args:
        run_dir: The run's folder.

    Raises:
        ConfigError: There is no such folder, or it is not a run's.
    """

    def __init__(self, run_dir: Path) -> None:
        if not is_run(run_dir):
            raise ConfigError(_foreign(run_dir))
        self.run_dir = run_dir
        self._ledgers: dict[Path, _LedgerPlace] = {}
        self._events: dict[Path, EventReader] = {}

    def read(self) -> RunRecord:
        """Return the run as it is now."""
        plan = read_json_object(self.run_dir, "plan.json") or {}
        snapshots, calls, trouble = self._read_ledgers()
        accounts = {account.id: account for snapshot in snapshots for account in snapshot.accounts}
        live = is_live(self.run_dir)
        trials = [
            self._trial(folder, planned, accounts.get(alias), live=live)
            for alias, folder, planned in trials_of(self.run_dir)
        ]
        statuses = tuple(trial.status for trial in trials)
        run = RunStatus(self.run_dir, live or any(status.status == "running" for status in statuses), statuses)
        tags = plan.get("tags")
        record = RunRecord(
            run_dir=self.run_dir,
            run_id=self.run_dir.resolve().name,
            plan=plan,
            live=run.live,
            status=run.status,
            begun_at_s=epoch_s(plan.get("created_at")) or begun_at_s(self.run_dir),
            tags={str(name): str(text) for name, text in tags.items()} if isinstance(tags, dict) else {},
            trials=tuple(trials),
            calls=calls,
            notices=_notices(self.run_dir),
            quarantined=tuple(row for snapshot in snapshots for row in snapshot.quarantined),
        )
        return replace(record, trouble=" ".join(_troubles(record, trouble, has_ledger=bool(snapshots))) or None)

    def _read_ledgers(self) -> tuple[list[Snapshot], Sequence[Call], str | None]:
        """Return the run's ledgers with all calls, and why one cannot be read."""
        snapshots, calls, trouble = [], list[Call](), None
        try:
            for path in ledgers_of(self.run_dir):
                place = self._ledgers.setdefault(path, _LedgerPlace(path))
                snapshots.append(place.read())
                calls += place.calls
        except ConfigError:
            pass  # there is none
        except (OperatingError, OSError) as exc:
            trouble = f"{str(exc).rstrip('.')}."
        return snapshots, tuple(calls), trouble

    def _trial(self, folder: Path, planned: PlannedTrial | None, account: Account | None, *, live: bool) -> TrialRecord:
        events = self._events.setdefault(folder, EventReader(folder)).read()
        summary = read_json_object(folder, "summary.json")
        if summary is None:
            status = unfinished_status(folder, events, planned, live=live or is_live(folder))
        else:
            status = status_of_summary(folder.name, summary)
        return TrialRecord(
            with_account(status, account),
            base=status.alias if planned is None else planned.base,
            repeat=0 if planned is None else planned.repeat,
            state=events.state,
            account=account,
            summary=summary or {},
            score=_score(summary or {}),
            tools=events.tools,
            last_event_at_s=events.last_at_s,
            began_at_s=epoch_s(status.started_at),
            ended_at_s=epoch_s((summary or {}).get("finished_at")),
        )


def _foreign(folder: Path) -> str:
    """Return why a folder cannot be shown as a run."""
    if not folder.is_dir():
        return f"There is no run at {folder}."
    if (folder / LEDGER).is_file():
        return (
            f"{folder} is the data folder of a stand-alone proxy, not a run. "
            f"`agent-preflight costs --data {folder}` shows what its calls cost."
        )
    return f"{folder} is not a run: it has no plan, no lock and no trials."


def _troubles(record: RunRecord, trouble: str | None, *, has_ledger: bool) -> Iterator[str]:
    """Yield what could not be read, and what a person can do."""
    statuses = {trial.status.status for trial in record.trials if not trial.summary}
    if not record.plan:
        yield "The run has no plan.json that can be read, so what it was to do is not known."
    if not record.trials:
        yield "It has no trials."
    if trouble:
        yield f"{trouble[0].upper()}{trouble[1:]} So costs are those of the summaries, and calls are not known."
    elif not has_ledger and any(trial.status.status != "pending" for trial in record.trials):
        yield "The run has no ledger (an earlier version made it), so costs are those of the summaries."
    if "lost" in statuses:
        yield (
            "The runner died before the end of its trials: `agent-preflight sweep` settles what they left, and "
            f"`agent-preflight run --resume {record.run_id}` continues the run."
        )


def _notices(run_dir: Path) -> tuple[Notice, ...]:
    """Return the lines of notices.jsonl that can be read."""
    content = read_start(run_dir, NOTICES_FILE, NOTICES_BYTES_MAX) or b""
    return tuple(notice for line in content.splitlines() if (notice := _notice(json_object(line) or {})) is not None)


def _notice(line: Mapping[str, Any]) -> Notice | None:
    match line:
        case {"time": str(time), "kind": str(kind), "text": str(text)} if (at_s := epoch_s(time)) is not None:
            return Notice(at_s, text_or_none(line.get("trial")), plain(kind), plain(text)[:NOTICE_CHARS_MAX])
    return None


class _LedgerPlace:
    """How far one ledger has been read."""

    def __init__(self, path: Path) -> None:
        self._path, self._inode, self.calls = path, 0, list[Call]()

    def read(self) -> Snapshot:
        """Read the entries after the last one, or all if the file is another one. Raises LedgerError."""
        inode = self._path.stat().st_ino
        if inode != self._inode:
            self._inode, self.calls = inode, []
        snapshot, entries = read_after(self._path, self.calls[-1].entry_id if self.calls else 0)
        self.calls += map(call_of, entries)
        return snapshot


def _block(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    block = summary.get("preflight")
    return block if isinstance(block, dict) else {}


def _score(summary: Mapping[str, Any]) -> Score | None:
    """Return the score in a summary; None without one."""
    try:
        score = msgspec.convert(_block(summary).get("score"), Score | None)
    except msgspec.ValidationError:
        return Score(None, reason=f"it is not a number of at most {SCORE_MAX:g}")
    if score is not None and score.kind == "bool" and score.value not in (None, 0.0, 1.0):
        return Score(None, reason="it is neither true nor false")
    return score
