"""A run as people follow it: a live table on a terminal, a line for each change of state anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent_preflight.base.console import write_line
from agent_preflight.base.tables import DECIMALS, TableColumn, TextTable, duration, money, show
from agent_preflight.base.terminal import plain
from agent_preflight.base.usd import dollars
from agent_preflight.runner.progress import RunProgress, TrialProgress, now_s

REFRESH_PER_S = 8
ECHO = "^C"
"""A terminal writes it behind the last line when Ctrl-C is pressed; with room for it no further line is begun."""


class RunView(Protocol):
    """Shows a run while its context lasts.

    Attributes:
        progress: What the run writes to.
    """

    progress: RunProgress

    def say(self, line: str) -> None:
        """Take a line that the run prints; may come from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_view(stream: TextIO | None = None) -> RunView:
    """Return the view that fits a stream (standard output by default): live on a terminal, else line by line.

    A terminal that is dumb (`TERM=dumb`) cannot renew a table.
    """
    stream = stream or sys.stdout
    live = stream.isatty() and not Console(file=stream).is_dumb_terminal
    return LiveView(stream) if live else LineView(stream)


class LiveView:
    """A table that renews itself from when trials begin: above it stands what the checks print.

    It is gone when the context ends, so that the final table takes its place.
    """

    def __init__(self, stream: TextIO) -> None:
        self.progress = RunProgress(on_alert=self._alert, on_begin=self._begin)
        console = _Console(file=stream)
        self._live = Live(
            get_renderable=lambda: Group(
                Text(plain(self.progress.title)),
                run_table(self.progress.rows(), now_s(), live=True).fitted(console.width - len(ECHO)),
            ),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        console.turn = self._live._lock

    def say(self, line: str) -> None:
        """Nothing: the table shows it, and run.log keeps it."""

    def _alert(self, text: str) -> None:
        """Print it above the table, where it stays."""
        self._live.console.print(Text(plain(text)))

    def _begin(self) -> None:
        self._live.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class _Console(Console):
    """A console on which each print and each frame of a live table is whole before the next begins.

    Rich's own places the cursor for a print by the last frame's height, and lets another thread draw before it is written.

    Attributes:
        turn: Held while something is printed: the lock of the live table, which a frame holds already.
    """

    turn: AbstractContextManager[object] = nullcontext()

    def __enter__(self) -> Self:
        self.turn.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.turn.__exit__(None, None, None)


class LineView:
    """What the run says, and a line whenever a trial goes on to another state."""

    def __init__(self, stream: TextIO) -> None:
        self.progress = RunProgress(self._changed)
        self._stream = stream

    def say(self, line: str) -> None:
        """Print the line."""
        write_line(self._stream, line)

    def _changed(self, before: TrialProgress | None, row: TrialProgress) -> None:
        if before is not None and before.state != row.state and row.ok is not None:
            self.say(f"[{row.alias}] {row.state}: {money(row.balance.posted_pusd)} spent, {_calls(row.balance.calls)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def print_table(rows: Sequence[TrialProgress], stream: TextIO | None = None) -> None:
    """Print the table of a run that is over."""
    show(run_table(rows, now_s()), stream=stream)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column, its cell of a row, and its sum."""

    column: TableColumn
    cell: Callable[[TrialProgress, float], Text | str]
    total: Callable[[Sequence[TrialProgress]], str] = lambda rows: ""


_COLUMNS = (
    _Column(TableColumn("trial"), lambda row, _: Text(plain(row.alias), style="bold"), lambda rows: "TOTAL"),
    _Column(TableColumn("model", spare=4), lambda row, _: row.model_id),
    _Column(TableColumn("status"), lambda row, _: Text(row.state, style=_style(row))),
    _Column(
        TableColumn("calls", right=True),
        lambda row, _: f"{row.balance.calls:,}",
        lambda rows: f"{sum(r.balance.calls for r in rows):,}",
    ),
    _Column(TableColumn("in flight", right=True, spare=3), lambda row, _: str(row.balance.calls_in_flight or "")),
    _Column(
        TableColumn("refused", right=True, spare=2),
        lambda row, _: str(row.balance.refused or ""),
        lambda rows: _refused(rows),
    ),
    _Column(
        TableColumn("tokens", right=True),
        lambda row, _: f"{_tokens(row):,}",
        lambda rows: f"{sum(map(_tokens, rows)):,}",
    ),
    _Column(
        TableColumn("cost", right=True),
        lambda row, _: money(row.balance.posted_pusd),
        lambda rows: money(sum(row.balance.posted_pusd for row in rows)),
    ),
    _Column(TableColumn("limit", right=True), lambda row, _: _limit(row), lambda rows: _limit(*rows)),
    _Column(TableColumn("time", right=True, spare=1), lambda row, at_s: _time(row, at_s)),
)


def run_table(rows: Sequence[TrialProgress], at_s: float, *, live: bool = False) -> TextTable:
    """Return the table: one row for each trial, and the sums.

    Args:
        rows: The trials.
        at_s: Monotonic time now.
        live: It is drawn again and again.
    """
    return TextTable(
        [each.column for each in _COLUMNS],
        [[each.cell(row, at_s) for each in _COLUMNS] for row in rows],
        total=[each.total(rows) for each in _COLUMNS] if rows else (),
        notes=[_note(row) for row in rows],
        live=live,
    )


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


def _note(row: TrialProgress) -> str:
    """What there is to say of a trial beside its status."""
    return "" if row.note == row.state else row.note


def _style(row: TrialProgress) -> str:
    if row.started_s is None:
        return "dim"
    return {None: "yellow", True: "green", False: "red"}[row.ok]


def _limit(*rows: TrialProgress) -> str:
    return dollars(sum(row.limit_pusd for row in rows), DECIMALS)


def _refused(rows: Sequence[TrialProgress]) -> str:
    return f"{sum(row.balance.refused for row in rows):,}"


def _time(row: TrialProgress, at_s: float) -> str:
    return duration(row.seconds(at_s)) if row.started_s is not None else ""


def _tokens(row: TrialProgress) -> int:
    return row.balance.prompt_tokens + row.balance.completion_tokens
