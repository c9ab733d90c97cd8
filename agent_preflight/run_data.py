"""A run as data for your own analysis: its trials and calls as typed rows, as tables of pandas, and as a table in a notebook."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import asdict

from agent_preflight.base.tables import money
from agent_preflight.base.usd import usd
from agent_preflight.figures.run_figures import TableFigures, table_figures
from agent_preflight.figures.trial_figures import TrialFigures
from agent_preflight.models import RunResult
from agent_preflight.runs.call import Call
from agent_preflight.runs.costs import accounts_of
from agent_preflight.runs.record import Score, TrialRecord, read_record
from preflight_proxy.core.errors import ConfigError, OperatingError

if TYPE_CHECKING:
    import pandas

__all__ = ["Call", "Run", "RunResults", "TrialRow", "read_run"]


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
    calls: tuple[Call, ...]
    figures: TableFigures

    def __repr__(self) -> str:
        return f"<Run {self.run_id}: {len(self.trials)} trials, {len(self.calls)} calls>"

    def to_pandas(self, what: Literal["calls", "trials"] = "calls") -> pandas.DataFrame:
        """Return the calls or the trials as a DataFrame, with the columns of the export (docs/export.md).

        Columns that end in `_usd` are exact decimal text: `frame["cost_usd"].map(Decimal)` for sums, `.astype(float)` for plots.
        Times are UTC.

        Args:
            what: `calls` or `trials`.

        Raises:
            KeyError: `what` is another word.
            ImportError: pandas is not installed.
        """
        rows: Mapping[str, Sequence[Call | TrialRow]] = {"calls": self.calls, "trials": self.trials}
        try:
            import pandas
        except ImportError as exc:
            raise ImportError("to_pandas needs another package: pip install pandas") from exc
        frame = pandas.DataFrame(map(row_document, rows[what]), columns=COLUMNS[what])
        time = "time" if what == "calls" else "started_at"
        return frame.assign(**{time: pandas.to_datetime(frame[time], utc=True, format="ISO8601")})

    def _repr_html_(self) -> str:
        return table_html(self.figures)


class RunResults(list[RunResult]):
    """The results of a run: a list, which a notebook shows as the table of the run.

    Args:
        results: Those of the trials.
        run_dir: The run's folder, for `read_run`. The table is read from it.
    """

    def __init__(self, results: Iterable[RunResult], run_dir: Path) -> None:
        super().__init__(results)
        self.run_dir = run_dir

    def _repr_html_(self) -> str | None:
        try:
            return read_run(self.run_dir)._repr_html_()
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
    table = table_figures(record, datetime.now(UTC).timestamp())
    figures = {trial.alias: trial for trial in table.trials}
    trials = tuple(_trial_row(trial, figures[trial.status.alias], record.tags) for trial in record.trials)
    return Run(record.run_id, record.tags, trials, tuple(record.calls), table)


def _trial_row(trial: TrialRecord, figures: TrialFigures, tags: Mapping[str, str]) -> TrialRow:
    values = {**asdict(trial.status), **asdict(figures), "base": trial.base, "repeat": trial.repeat, "tags": tags}
    for name in ("limit", "posted", "pending"):
        values[f"{name}_usd"] = None if values[f"{name}_pusd"] is None else usd(values[f"{name}_pusd"])
    values |= {f"{name}_tokens": count for name, count in asdict(figures.tokens).items()}
    score = figures.score or Score(None)
    values |= {"score": score.value, "success": score.success, "score_reason": score.reason}
    values["started_at"] = trial.began_at_s and datetime.fromtimestamp(trial.began_at_s, UTC)
    return msgspec.convert(values, TrialRow)


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "calls": tuple({"at_s": "time", "cost_pusd": "cost_usd"}.get(name, name) for name in Call.__struct_fields__),
    "trials": TrialRow.__struct_fields__,
}
"""What is written and shown of each kind of rows: attributes of a row."""


def row_document(row: Call | TrialRow) -> dict[str, Any]:
    """Return a row for machines: dollars are exact decimal text, times ISO 8601."""
    return {name: _plain(getattr(row, name)) for name in COLUMNS["calls" if isinstance(row, Call) else "trials"]}


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a row has
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return format(value, "f") if isinstance(value, Decimal) else value


def table_html(table: TableFigures) -> str:
    """Return the table of a run for a notebook: a line for each model, and the sentences that say who did best."""
    lines = [["model", *(["score", "cost for each success"] if table.has_scores else []), "cost", "calls", "ended"]]
    for model in table.models:
        each = _known(money, model.cost_per_success_pusd, "none" if model.successes == 0 else "unknown")
        scores = [_known("{:.2f}".format, model.score), each] if table.has_scores else []
        costs = [_known(money, model.posted_pusd), _known("{:,}".format, model.calls)]
        lines.append([f"{model.base} ({model.model_id})", *scores, *costs, model.ended])
    cells = ("th", *["td"] * len(table.models))
    rows = (
        "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in line)
        for cell, line in zip(cells, lines, strict=True)
    )
    answer = "".join(f"<p>{html.escape(''.join(text for text, _ in each))}</p>" for each in table.answer)
    return f"<table><caption>{html.escape(table.title)}</caption>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>{answer}"


def _known(text: Callable[[Any], str], value: float | None, absent: str = "unknown") -> str:
    return absent if value is None else text(value)
