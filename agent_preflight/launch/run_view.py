"""A run as people follow it: a live table on a terminal, a line for each change of state anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent_preflight.base.console import write_line
from agent_preflight.base.tables import ComputedColumn, TextTable, duration, exact_money, figures, money, show, table_of
from agent_preflight.runner.progress import RunProgress, TrialProgress, now_s
from preflight_proxy.core.terminal import plain

REFRESH_PER_S = 8
ECHO = "^C"
"""A terminal writes it behind the last line when Ctrl-C is pressed; with room for it no further line is begun."""


class RunView(Protocol):
    """Shows a run until it is closed.

    Attributes:
        progress: What the run writes to.
    """

    progress: RunProgress

    def say(self, line: str) -> None:
        """Take a line that the run prints; may come from any thread."""

    def close(self) -> None:
        """End the view; the final table takes its place."""


def run_view(stream: TextIO | None = None) -> RunView:
    """Return the view that fits a stream (standard output by default): live on a terminal, else line by line.

    A terminal that is dumb (`TERM=dumb`) cannot renew a table.
    """
    stream = stream or sys.stdout
    live = stream.isatty() and not Console(file=stream).is_dumb_terminal
    return LiveView(stream) if live else LineView(stream)


class LiveView:
    """A table that renews itself from when trials begin. What the checks print stands above it."""

    def __init__(self, stream: TextIO) -> None:
        self.progress = RunProgress(on_alert=self._alert, on_begin=lambda: self._live.start())
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

    def close(self) -> None:
        """Remove the table from the terminal."""
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

    def close(self) -> None:
        """Do nothing: what is printed stays."""


def print_table(rows: Sequence[TrialProgress], stream: TextIO | None = None) -> None:
    """Print the table of a run that is over."""
    show(run_table(rows, now_s()), stream=stream)


def run_table(rows: Sequence[TrialProgress], at_s: float, *, live: bool = False) -> TextTable:
    """Return the table: one row for each trial, and the sums.

    Args:
        rows: The trials.
        at_s: Monotonic time now.
        live: It is drawn again and again.
    """
    columns: Sequence[ComputedColumn[TrialProgress]] = (
        ComputedColumn("trial", cell=lambda row: Text(plain(row.alias), style="bold"), total=lambda rows: "TOTAL"),
        ComputedColumn("model", spare=5, cell=lambda row: row.model_id),
        ComputedColumn("status", cell=lambda row: Text(row.state, style=_style(row))),
        figures("calls", lambda row: row.balance.calls),
        ComputedColumn("in flight", right=True, spare=4, cell=lambda row: str(row.balance.calls_in_flight or "")),
        figures("refused", lambda row: row.balance.refused or None, unknown="", spare=3),
        figures("tokens", lambda row: row.balance.prompt_tokens + row.balance.completion_tokens),
        figures("cost", lambda row: row.balance.posted_pusd, money),
        figures("limit", lambda row: row.limit_pusd, exact_money),
        ComputedColumn(
            "time",
            right=True,
            spare=2,
            cell=lambda row: "" if row.started_s is None else duration(row.seconds(at_s)),
        ),
    )
    notes = ["" if row.note == row.state else row.note for row in rows]
    return table_of(columns, rows, notes, with_total=bool(rows), live=live)


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


def _style(row: TrialProgress) -> str:
    if row.started_s is None:
        return "dim"
    return {None: "yellow", True: "green", False: "red"}[row.ok]
