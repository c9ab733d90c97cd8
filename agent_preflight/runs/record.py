"""Reads everything that is known about a run: plan, ledger, event logs, notices and summaries. A second read costs what is new.

A proxy and agents may be writing the files. What cannot be read is left out, and `RunRecord.trouble` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import begun_at_s, read_json_object
from agent_preflight.base.usd import pusd
from agent_preflight.runs.costs import ledgers_of
from agent_preflight.runs.event_log import EventReader, epoch_s
from agent_preflight.runs.folder import is_live
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials
from agent_preflight.runs.status import (
    RunStatus,
    TrialStatus,
    status_of_summary,
    trials_of,
    unfinished_status,
    with_account,
)
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.rows import Account, Entry, QuarantinedEndpoint
from preflight_proxy.ledger.reader import Snapshot, read_after

NOTICES_FILE = "notices.jsonl"
NOTICES_BYTES_MAX = 4 * 2**20
"""More than this of a run's notices is not read."""
NOTICE_CHARS_MAX = 400


class Call(msgspec.Struct, frozen=True, gc=False):
    """One entry of the ledger: a call that ended, or a later correction. Fields as in costs.jsonl (docs/files.md).

    Attributes:
        at_s: When it was posted, seconds since the epoch.
        trial: The account's id, which is the trial's alias.
        endpoint: Tag of the endpoint that served; empty if it is not known.
        outcome: `posted`, `assumed` and `voided` end a call; `recovered` and `adjusted` correct a sum.
        cost_pusd: Signed. The sum over all of a trial's is what is posted.
        cache_saved_pusd: What caching saved, negative if writing cost more; None if it is not known.
        prices: Dollars per token as quoted, by `prompt`, `completion`, `cache_read`, `cache_write`; None in older lines.
        waited_ms: How long it waited for room in the budget; 0 in older lines.
    """

    entry_id: int
    at_s: float
    trial: str
    outcome: str
    cost_pusd: int
    reserved_pusd: int = 0
    model: str = ""
    provider: str = ""
    endpoint: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    conversation: str | None = None
    cache_miss: str | None = None
    cache_saved_pusd: int | None = None
    prices: Mapping[str, Decimal] | None = None
    waited_ms: int = 0
    status: int | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    api: str = ""
    streamed: bool = False
    generation_id: str | None = None
    reservation_id: str | None = None
    reason: str = ""
    purpose: str = ""
    tags: Mapping[str, str] = {}

    @property
    def is_call(self) -> bool:
        """Whether it is a call with a cost; a voided one has none, and a correction is no call."""
        return self.outcome in ("posted", "assumed")


class Score(msgspec.Struct, frozen=True):
    """What a trial's output is worth, as its summary has it.

    Attributes:
        value: None if scoring failed; never 0 for that.
        success: Whether it counts as a success; None if scoring failed.
        kind: `bool` or `number`.
        reason: Why scoring failed.
    """

    value: float | None
    success: bool | None = None
    kind: str | None = None
    reason: str | None = None
    details: Mapping[str, Any] | None = None


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


class RunRecord(msgspec.Struct, frozen=True):
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

    def calls_by_trial(self) -> dict[str, list[Call]]:
        """Return the entries of each trial, in order."""
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
        ConfigError: It is no folder, or not a run's.
    """

    def __init__(self, run_dir: Path) -> None:
        if not run_dir.is_dir():
            raise ConfigError(f"There is no run at {run_dir}.")
        self.run_dir = run_dir
        self._ledgers: dict[Path, _LedgerPlace] = {}
        self._events: dict[Path, EventReader] = {}
        self._notices: tuple[int, list[Notice]] = (0, [])

    def read(self) -> RunRecord:
        """Return the run as it is now."""
        plan = read_json_object(self.run_dir, "plan.json") or {}
        snapshots, calls, trouble = self._read_ledgers()
        accounts = {account.id: account for snapshot in snapshots for account in snapshot.accounts}
        live = is_live(self.run_dir)
        places = {trial.alias: place for place, trial in enumerate(planned_trials(self.run_dir))}
        trials = [
            self._trial(folder, planned, accounts.get(alias), live=live)
            for alias, folder, planned in trials_of(self.run_dir)
        ]
        trials.sort(key=lambda trial: places.get(trial.status.alias, len(places)))
        statuses = tuple(trial.status for trial in trials)
        run = RunStatus(self.run_dir, live or any(status.status == "running" for status in statuses), statuses)
        tags = plan.get("tags")
        return RunRecord(
            run_dir=self.run_dir,
            run_id=self.run_dir.resolve().name,
            plan=plan,
            live=run.live,
            status=run.status,
            begun_at_s=epoch_s(plan.get("created_at")) or begun_at_s(self.run_dir),
            tags={str(name): str(text) for name, text in tags.items()} if isinstance(tags, dict) else {},
            trials=tuple(trials),
            calls=calls,
            notices=(),
            quarantined=tuple(row for snapshot in snapshots for row in snapshot.quarantined),
            trouble=trouble,
        )

    def _read_ledgers(self) -> tuple[list[Snapshot], Sequence[Call], str | None]:
        """Return the run's ledgers with all calls, and why one cannot be read."""
        try:
            paths = ledgers_of(self.run_dir)
        except ConfigError:
            return [], (), None
        snapshots, trouble = [], None
        for path in paths:
            try:
                snapshots.append(self._ledgers.setdefault(path, _LedgerPlace(path)).read())
            except OperatingError as exc:
                trouble = str(exc)
        calls = [call for path in paths if path in self._ledgers for call in self._ledgers[path].calls]
        return snapshots, calls, trouble

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
        self.calls += map(_call, entries)
        return snapshot


def _score(summary: Mapping[str, Any]) -> Score | None:
    """Return the score in a summary; None without one."""
    block = summary.get("preflight")
    match block.get("score") if isinstance(block, dict) else None:
        case {"score": None | int() | float() as value, **rest}:
            with suppress(msgspec.ValidationError):
                return msgspec.convert({**rest, "value": value}, Score)
    return None


class _Line(msgspec.Struct, gc=False):
    """What a cost line has, apart from what its entry has."""

    model: str = ""
    provider: str | None = ""
    tag: str | None = None
    generation_id: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    conversation: str | None = None
    cache_miss: str | None = None
    cache_saved_usd: str | None = None
    reserved_usd: str = "0"
    prices: dict[str, str | None] | None = None
    waited_ms: int = 0
    status: int | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    api: str = ""
    streamed: bool = False
    reason: str = ""
    purpose: str = ""
    tags: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Line)


def _call(entry: Entry) -> Call:
    """Return an entry as a call. One whose line cannot be read has its cost and time only."""
    try:
        line = _DECODER.decode(entry.line)
    except msgspec.DecodeError:
        line = _Line()
    return Call(
        entry.entry_id,
        entry.at_s,
        entry.account,
        entry.kind.value,
        entry.cost_pusd,
        _amount_pusd(line.reserved_usd) or 0,
        line.model,
        line.provider or "",
        line.tag or "",
        line.prompt_tokens,
        line.cached_tokens,
        line.cache_write_tokens,
        line.completion_tokens,
        line.reasoning_tokens,
        line.conversation,
        line.cache_miss,
        _amount_pusd(line.cache_saved_usd),
        None if line.prices is None else _prices(tuple(line.prices.items())),
        line.waited_ms,
        line.status,
        line.ttft_ms,
        line.duration_ms,
        line.api,
        line.streamed,
        line.generation_id,
        entry.reservation_id,
        line.reason,
        line.purpose,
        line.tags or {},
    )


def _amount_pusd(text: str | None) -> int | None:
    try:
        return None if text is None else pusd(text)
    except InvalidOperation:
        return None


@lru_cache(maxsize=256)
def _prices(texts: tuple[tuple[str, str | None], ...]) -> Mapping[str, Decimal] | None:
    try:
        return {name: Decimal(text) for name, text in texts if text is not None}
    except InvalidOperation:
        return None
