"""Reads everything that is known about a run: plan, ledger, event logs, notices and summaries. A second read costs what is new.

A proxy and agents may be writing the files. What cannot be read is left out, and `RunRecord.trouble` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from agent_preflight.artifacts import begun_at_s, json_object, read_json_object, read_start
from agent_preflight.base.usd import pusd, usd
from agent_preflight.runs.costs import LEDGER, ledgers_of
from agent_preflight.runs.event_log import EventReader, epoch_s, text_or_none
from agent_preflight.runs.folder import is_live
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials
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
from preflight_proxy.core.ledger.rows import Account, Entry, QuarantinedEndpoint
from preflight_proxy.core.terminal import plain
from preflight_proxy.ledger.reader import Snapshot, read_after

NOTICES_FILE = "notices.jsonl"
NOTICES_BYTES_MAX = 4 * 2**20
"""More than this of a run's notices is not read."""
NOTICE_CHARS_MAX = 400


class Call(msgspec.Struct, frozen=True, gc=False, rename={"trial": "account", "endpoint": "tag"}):
    """One entry of a run's ledger: a call that ended, or a later correction. Fields as in costs.jsonl (docs/files.md).

    Attributes:
        entry_id: Its number in the ledger, from 1.
        at_s: When its cost was posted, seconds since the epoch; `time` is the same as a datetime.
        trial: The trial's alias; the account of a stand-alone proxy.
        outcome: `posted`, `assumed` or `voided` for a call, `recovered` or `adjusted` for a correction.
        cost_pusd: Whole pico-dollars; `cost_usd` is the same in dollars. A correction may be negative.
        reserved_usd: Dollars that were reserved for the call, exact.
        model: The model that served the call.
        provider: The provider that served it; None if that is not known.
        endpoint: The tag of the endpoint that served it; None if that is not known.
        prompt_tokens: The whole prompt, cached tokens included.
        cached_tokens: Those that were read from a cache.
        cache_write_tokens: Those that were written to a cache.
        completion_tokens: All generated tokens.
        reasoning_tokens: Those of them that were reasoning.
        conversation: An id that calls of one conversation share.
        cache_miss: Why the cache gave less than it could.
        cache_saved_usd: Dollars that caching saved; negative if writing cost more. None if it is not known.
        prices: Dollars per token as they were quoted: `prompt`, `completion`, `cache_read`, `cache_write`. None if not known.
        waited_ms: Milliseconds that the call waited for room in the budget.
        status: OpenRouter's HTTP status.
        ttft_ms: Milliseconds from sending the call to the first byte of its answer.
        duration_ms: Milliseconds from sending the call to the end of its answer.
        api: The API's shape, such as `chat`.
        streamed: Whether the answer was a stream.
        generation_id: OpenRouter's id of the call.
        reservation_id: The reservation that the entry ends or corrects.
        reason: Why it was voided.
        purpose: `weighing` for a call of the proxy's own; empty for the agent's.
        tags: The run's tags.
    """

    entry_id: int = 0
    at_s: float = 0.0
    trial: str = ""
    outcome: str = ""
    cost_pusd: int = 0
    reserved_usd: Decimal = Decimal(0)
    model: str = ""
    provider: str | None = None
    endpoint: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    conversation: str | None = None
    cache_miss: str | None = None
    cache_saved_usd: Decimal | None = None
    prices: Mapping[str, Decimal | None] | None = None
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
    def time(self) -> datetime:
        """When its cost was posted, UTC."""
        return datetime.fromtimestamp(self.at_s, UTC)

    @property
    def cost_usd(self) -> Decimal:
        """Dollars, exact. Those of all entries of a trial add up to what is posted."""
        return usd(self.cost_pusd)

    @property
    def reserved_pusd(self) -> int:
        """What was reserved for it."""
        return pusd(self.reserved_usd)

    @property
    def cache_saved_pusd(self) -> int | None:
        """What caching saved; None if it is not known."""
        return None if self.cache_saved_usd is None else pusd(self.cache_saved_usd)

    @property
    def is_call(self) -> bool:
        """Whether it is a call of the agent with a cost. Not one: a voided call, a correction, a weighing (M3)."""
        return self.has_cost and not self.purpose

    @property
    def has_cost(self) -> bool:
        """Whether it ends a call, of the agent or a weighing, and has its cost and tokens."""
        return self.outcome in ("posted", "assumed")


class Score(msgspec.Struct, frozen=True, rename={"value": "score"}):
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

    @property
    def block(self) -> Mapping[str, Any]:
        """The block `preflight` of its summary; {} without one."""
        return _block(self.summary)


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
        places = {trial.alias: place for place, trial in enumerate(planned_trials(self.run_dir))}
        trials = [
            self._trial(folder, planned, accounts.get(alias), live=live)
            for alias, folder, planned in trials_of(self.run_dir)
        ]
        trials.sort(key=lambda trial: places.get(trial.status.alias, len(places)))
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
    with suppress(msgspec.ValidationError):
        return msgspec.convert(_block(summary).get("score"), Score | None)
    return None


_DECODER = msgspec.json.Decoder(Call)


def call_of(entry: Entry) -> Call:
    """Return an entry as a call. Of a line that cannot be read, only what the entry says is known."""
    try:
        call = _DECODER.decode(entry.line)
    except msgspec.MsgspecError:
        call = Call()
    known = {"entry_id": entry.entry_id, "at_s": entry.at_s, "trial": entry.account, "cost_pusd": entry.cost_pusd}
    return replace(call, outcome=entry.kind.value, **known)
