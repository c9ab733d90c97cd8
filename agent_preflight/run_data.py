"""A run as data for your own analysis: its trials and calls as typed rows, as tables of pandas, and as a table in a notebook."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import asdict, astuple

from agent_preflight.base.tables import money
from agent_preflight.base.usd import usd
from agent_preflight.figures.model_figures import ModelFigures
from agent_preflight.figures.run_figures import TableFigures, table_figures
from agent_preflight.figures.trial_figures import TrialFigures
from agent_preflight.models import RunResult
from agent_preflight.runs.costs import accounts_of
from agent_preflight.runs.record import Call, Score, TrialRecord, read_record
from preflight_proxy.core.errors import ConfigError, OperatingError

if TYPE_CHECKING:
    import pandas

__all__ = ["CallRow", "Run", "RunResults", "TrialRow", "read_run"]


class CallRow(Call, frozen=True):
    """One entry of a run's ledger: a call that ended, or a later correction.

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

    @property
    def time(self) -> datetime:
        """When its cost was posted, UTC."""
        return datetime.fromtimestamp(self.at_s, UTC)

    @property
    def cost_usd(self) -> Decimal:
        """Dollars, exact. Those of all calls of a trial add up to its `posted_usd`."""
        return usd(self.cost_pusd)


class TrialRow(msgspec.Struct, frozen=True):
    """One trial of a run.

    Attributes:
        alias: Its name.
        base: The alias of its model, which all repeats share.
        repeat: Which repeat of its model it is, from 1; 0 in a run without repeats.
        model_id: The model that it ran for; empty if that is not known.
        status: `pending`, `running`, or how it ended: `done`, `spent`, `ejected`, `failed`, `stopped`, `interrupted`, `lost`.
        limit_usd: Dollars granted.
        posted_usd: Dollars that its calls have cost, exact; None if that is not known.
        pending_usd: Dollars reserved for calls whose cost is not known yet.
        calls: Calls that have a cost.
        refused: Calls that were refused.
        prompt_tokens: Of all its calls, cached ones included.
        cached_tokens: Those that were read from a cache.
        cache_write_tokens: Those that were written to a cache.
        completion_tokens: All generated tokens.
        reasoning_tokens: Those of them that were reasoning.
        tool_calls: Tool calls that the agent's events reported.
        events_count: Events that the agent printed.
        started_at: UTC; None before its start.
        duration_s: Seconds from its start to its end, or to now.
        score: What its output is worth; None if it has no score.
        success: Whether that is a success.
        score_reason: Why it could not be scored.
        error: Why it failed or was ejected.
        notes: More about its end.
        tags: The run's tags.
    """

    alias: str
    base: str
    repeat: int
    model_id: str
    status: str
    limit_usd: Decimal | None
    posted_usd: Decimal | None
    pending_usd: Decimal | None
    calls: int | None
    refused: int | None
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    tool_calls: int
    events_count: int
    started_at: datetime | None
    duration_s: float | None
    score: float | None
    success: bool | None
    score_reason: str | None
    error: str | None
    notes: tuple[str, ...]
    tags: Mapping[str, str]


class Run(msgspec.Struct, frozen=True):
    """A run at one moment. A notebook shows it as a table with a line for each model.

    Attributes:
        run_id: Its name.
        tags: Its tags.
        trials: Its trials, in the order of its plan.
        calls: The entries of its ledger, in order.
        figures: What the table shows.
    """

    run_id: str
    tags: Mapping[str, str]
    trials: tuple[TrialRow, ...]
    calls: tuple[CallRow, ...]
    figures: TableFigures

    def __repr__(self) -> str:
        return f"<Run {self.run_id}: {len(self.trials)} trials, {len(self.calls)} calls>"

    def to_pandas(self, what: Literal["calls", "trials"] = "calls") -> pandas.DataFrame:
        """Return the calls or the trials as a DataFrame, a column for each attribute of a row.

        Columns that end in `_usd` are exact decimal text: `frame["cost_usd"].map(Decimal)` for sums, `.astype(float)` for plots.
        Times are UTC.

        Args:
            what: `calls` or `trials`.

        Raises:
            ValueError: `what` is another word.
            ImportError: pandas is not installed.
        """
        if what not in COLUMNS:
            raise ValueError(f'what is "calls" or "trials", not {what!r}')
        try:
            import pandas
        except ImportError as exc:
            raise ImportError("to_pandas needs another package: pip install pandas") from exc
        rows: Sequence[CallRow | TrialRow] = self.calls if what == "calls" else self.trials
        frame = pandas.DataFrame([row_document(row) for row in rows], columns=COLUMNS[what])
        time = "time" if what == "calls" else "started_at"
        frame[time] = pandas.to_datetime(frame[time], utc=True, format="ISO8601")
        return frame

    def _repr_html_(self) -> str:
        return table_html(self.figures)


class RunResults(list[RunResult]):
    """The results of a run: a list, which a notebook shows as the table of the run.

    Args:
        results: Those of the trials.
        run_dir: The run's folder, for `read_run`. The table is read from it.
    """

    def __init__(self, results: Iterable[RunResult] = (), run_dir: Path | None = None) -> None:
        super().__init__(results)
        self.run_dir = run_dir

    def _repr_html_(self) -> str | None:
        try:
            return None if self.run_dir is None else read_run(self.run_dir)._repr_html_()
        except OperatingError:
            return None  # the notebook shows the list


def read_run(path: str | Path) -> Run:
    """Return a run as it is now, also while it runs, or one of an older version. One without a ledger has no calls.

    Args:
        path: The run's folder.

    Raises:
        ConfigError: It is not the folder of a run.
        LedgerError: Its ledger cannot be read.
    """
    record = read_record(Path(path))
    with contextlib.suppress(ConfigError):  # there is no ledger
        accounts_of(Path(path))
    figures = table_figures(record, datetime.now(UTC).timestamp())
    by_alias = {trial.alias: trial for trial in figures.trials}
    trials = tuple(_trial_row(trial, by_alias[trial.status.alias], record.tags) for trial in record.trials)
    return Run(record.run_id, record.tags, trials, tuple(map(call_row, record.calls)), figures)


def call_row(call: Call) -> CallRow:
    """Return the row of a call."""
    return CallRow(*astuple(call))


def _trial_row(trial: TrialRecord, figures: TrialFigures, tags: Mapping[str, str]) -> TrialRow:
    values = {**asdict(trial.status), **asdict(figures), "base": trial.base, "repeat": trial.repeat, "tags": tags}
    values |= {f"{name}_usd": _usd(values[f"{name}_pusd"]) for name in ("limit", "posted", "pending")}
    values |= {f"{name}_tokens": count for name, count in asdict(figures.tokens).items()}
    score = Score(None) if figures.score is None else figures.score
    values |= {"score": score.value, "success": score.success, "score_reason": score.reason}
    began_at_s = trial.began_at_s
    values["started_at"] = None if began_at_s is None else datetime.fromtimestamp(began_at_s, UTC)
    return msgspec.convert(values, TrialRow)


def _usd(amount_pusd: int | None) -> Decimal | None:
    return None if amount_pusd is None else usd(amount_pusd)


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "calls": tuple({"at_s": "time", "cost_pusd": "cost_usd"}.get(name, name) for name in Call.__struct_fields__),
    "trials": TrialRow.__struct_fields__,
}
"""The columns of each kind of rows: what is written and shown of a row."""


def row_document(row: CallRow | TrialRow) -> dict[str, Any]:
    """Return a row for machines: dollars are exact decimal text, times ISO 8601."""
    return {name: _plain(getattr(row, name)) for name in COLUMNS["calls" if isinstance(row, CallRow) else "trials"]}


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case tuple():
            return list(value)
    return value


def table_html(table: TableFigures) -> str:
    """Return the table of a run for a notebook: a line for each model, and the sentences that say who did best."""
    heads = ["model", *(["score", "cost for each success"] if table.has_scores else []), "cost", "calls", "ended"]
    lines = [_line("th", heads), *(_line("td", _cells(model, table)) for model in table.models)]
    answer = "".join(f"<p>{html.escape(''.join(text for text, _ in each))}</p>" for each in table.answer)
    return f"<table><caption>{html.escape(table.title)}</caption>{''.join(lines)}</table>{answer}"


def _cells(model: ModelFigures, table: TableFigures) -> Iterator[str]:
    yield f"{model.base} ({model.model_id})"
    if table.has_scores:
        yield "none" if model.score is None else f"{model.score:.3g}"
        yield "none" if model.cost_per_success_pusd is None else money(model.cost_per_success_pusd)
    yield "unknown" if model.posted_pusd is None else money(model.posted_pusd)
    yield "unknown" if model.calls is None else f"{model.calls:,}"
    yield model.ended


def _line(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{html.escape(text)}</{cell}>' for text in texts)}</tr>"
