"""A run as people follow it: a live table on a terminal, a line for each change of state anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent_preflight.runner.board import Board, Row, now_s
from agent_preflight.terminal import plain
from agent_preflight.usd import dollars, usd

PIPED_COLUMNS = 170
"""Width of a table that goes to a file or a pipe, where nobody says how wide it may be."""
REFRESH_PER_S = 8
NOTE_CHARS = 64
DECIMALS = 4
"""Of an amount, for the eye; a limit has as many more as it needs."""


class RunView(Protocol):
    """Shows a run while its context lasts.

    Attributes:
        board: What the run writes to.
    """

    board: Board

    def say(self, line: str) -> None:
        """Take a line that the run prints; may come from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_view(stream: TextIO | None = None) -> RunView:
    """Return the view that fits a stream (standard output by default): live on a terminal, else line by line."""
    stream = stream or sys.stdout
    return LiveView(stream) if stream.isatty() else LineView(stream)


class LiveView:
    """A table that renews itself; it is gone when the context ends, so that the final table takes its place."""

    def __init__(self, stream: TextIO) -> None:
        self.board = Board()
        self._live = Live(
            get_renderable=lambda: table_of(self.board.rows(), now_s()),
            console=Console(file=stream),
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )

    def say(self, line: str) -> None:
        """Nothing: the table shows it, and run.log keeps it."""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class LineView:
    """What the run says, and a line whenever a trial goes on to another state."""

    def __init__(self, stream: TextIO) -> None:
        self.board = Board(self._changed)
        self._stream = stream

    def say(self, line: str) -> None:
        """Print the line."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def _changed(self, before: Row | None, row: Row) -> None:
        if before is not None and before.state != row.state and row.ok is not None:
            self.say(f"[{row.alias}] {row.state}: {money(row.balance.posted_pusd)} spent, {row.balance.calls} calls")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def print_table(rows: Sequence[Row], stream: TextIO | None = None) -> None:
    """Print the table of a run that is over."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else PIPED_COLUMNS
    Console(file=stream, width=width).print(table_of(rows, now_s()))


def table_of(rows: Sequence[Row], at_s: float) -> Table:
    """Return the table: one row for each trial, and the sums."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=bool(rows))
    calls, tokens = sum(row.balance.calls for row in rows), sum(_tokens(row) for row in rows)
    posted, limit = sum(row.balance.posted_pusd for row in rows), sum(row.limit_pusd for row in rows)
    table.add_column("trial", footer=Text("TOTAL", style="bold"), no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("calls", footer=f"{calls:,}", justify="right")
    table.add_column("in flight", justify="right")
    table.add_column("refused", footer=f"{sum(row.balance.refused for row in rows):,}", justify="right")
    table.add_column("tokens", footer=f"{tokens:,}", justify="right")
    table.add_column("spent", footer=money(posted), justify="right")
    table.add_column("limit", footer=dollars(limit, DECIMALS), justify="right")
    table.add_column("time", justify="right")
    table.add_column("ended by")
    for row in rows:
        table.add_row(*_cells(row, at_s))
    return table


def _cells(row: Row, at_s: float) -> tuple[Text, ...]:
    balance, seconds = row.balance, row.seconds(at_s)
    style = {None: "yellow", True: "green", False: "red"}[row.ok] if row.started_s is not None else "dim"
    cells = (
        Text(row.alias, style="bold"),
        Text(plain(row.model_id)),
        Text(row.state, style=style),
        Text(f"{balance.calls:,}"),
        Text(str(balance.calls_in_flight or "")),
        Text(str(balance.refused or "")),
        Text(f"{_tokens(row):,}"),
        Text(money(balance.posted_pusd)),
        Text(dollars(row.limit_pusd, DECIMALS)),
        Text(f"{seconds:.1f}s" if row.started_s is not None else ""),
    )
    return (*cells, Text(plain(row.note)[:NOTE_CHARS]))


def _tokens(row: Row) -> int:
    return row.balance.prompt_tokens + row.balance.completion_tokens


def money(amount_pusd: int) -> str:
    """Return an amount in dollars with four decimals, for the eye; the ledger keeps the exact one."""
    return f"${usd(amount_pusd):.{DECIMALS}f}"


def files_line(run_dir: Path) -> str:
    """Return where a run's files are, in one line."""
    return f"files: {run_dir}"
