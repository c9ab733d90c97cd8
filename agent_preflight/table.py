"""A run as people follow it: a live table on a terminal, a line for each change of state anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent_preflight.console import write_line
from agent_preflight.runner.board import Board, Row, now_s
from agent_preflight.terminal import plain
from agent_preflight.usd import dollars, usd

PIPED_COLUMNS = 170
"""Width of a table that goes to a file or a pipe, where nobody says how wide it may be."""
REFRESH_PER_S = 8
NOTE_TITLE = "ended by"
NOTE_CHARS = 64
NOTE_CHARS_MIN = 24
"""What it needs to be read in a column: a terminal too narrow for it has fewer other columns."""
NOTE_CHARS_MAX = 400
"""An agent may have worded it."""
GAP = 2
"""Characters between two columns."""
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
    """Return the view that fits a stream (standard output by default): live on a terminal, else line by line.

    A terminal that is dumb (`TERM=dumb`) cannot renew a table.
    """
    stream = stream or sys.stdout
    live = stream.isatty() and not Console(file=stream).is_dumb_terminal
    return LiveView(stream) if live else LineView(stream)


class LiveView:
    """A table that renews itself; it is gone when the context ends, so that the final table takes its place."""

    def __init__(self, stream: TextIO) -> None:
        self.board = Board(on_alert=self._alert)
        console = Console(file=stream)
        self._live = Live(
            get_renderable=lambda: Group(
                Text(plain(self.board.title)), table_of(self.board.rows(), now_s(), console.width)
            ),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )

    def say(self, line: str) -> None:
        """Nothing: the table shows it, and run.log keeps it."""

    def _alert(self, text: str) -> None:
        """Print it above the table, where it stays."""
        self._live.console.print(Text(plain(text)))

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
        write_line(self._stream, line)

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
    console = Console(file=stream, width=None if stream.isatty() else PIPED_COLUMNS)
    console.print(finished_table(rows, now_s(), console.width))


def finished_table(rows: Sequence[Row], at_s: float, width: int) -> Group:
    """Return the table with every note whole: in its column, or in lines beneath where the terminal is too narrow for one."""
    table = table_of(rows, at_s, width, whole_notes=True)
    beneath = () if table.columns[-1].header == NOTE_TITLE else rows
    return Group(table, *(Text(f"{row.alias}: {_note(row)}") for row in beneath))


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its cell of a row, its sum, and how early a narrow terminal does without it (0: never)."""

    title: str
    cell: Callable[[Row, float], Text | str]
    total: Callable[[Sequence[Row]], str] = lambda rows: ""
    spare: int = 0
    right: bool = True


_COLUMNS = (
    _Column("trial", lambda row, _: Text(row.alias, style="bold"), lambda rows: "TOTAL", right=False),
    _Column("model", lambda row, _: plain(row.model_id), spare=4, right=False),
    _Column("status", lambda row, _: Text(row.state, style=_style(row)), right=False),
    _Column("calls", lambda row, _: f"{row.balance.calls:,}", lambda rows: f"{sum(r.balance.calls for r in rows):,}"),
    _Column("in flight", lambda row, _: str(row.balance.calls_in_flight or ""), spare=3),
    _Column("refused", lambda row, _: str(row.balance.refused or ""), lambda rows: _refused(rows), spare=2),
    _Column("tokens", lambda row, _: f"{_tokens(row):,}", lambda rows: f"{sum(map(_tokens, rows)):,}"),
    _Column(
        "spent",
        lambda row, _: money(row.balance.posted_pusd),
        lambda rows: money(sum(row.balance.posted_pusd for row in rows)),
    ),
    _Column("limit", lambda row, _: _limit(row), lambda rows: _limit(*rows)),
    _Column("time", lambda row, at_s: _time(row, at_s), spare=1),
)


@dataclass(frozen=True, slots=True)
class _Filled:
    """A column with its cells for these rows."""

    column: _Column
    cells: Sequence[Text]
    total: str

    @property
    def chars(self) -> int:
        """How wide it is."""
        return max(len(self.column.title), len(self.total), *(cell.cell_len for cell in self.cells), 0)


def table_of(rows: Sequence[Row], at_s: float, width: int = PIPED_COLUMNS, *, whole_notes: bool = False) -> Table:
    """Return the table: one row for each trial, and the sums. Figures are never cut: a narrow one has fewer columns.

    Args:
        rows: The trials.
        at_s: Monotonic time now.
        width: Characters that a line of the terminal has.
        whole_notes: What ended a trial goes on in further lines where it is too long for one; else it is cut.
    """
    filled = [_filled(column, rows, at_s) for column in _COLUMNS]
    note_chars = min(NOTE_CHARS_MIN, max([len(NOTE_TITLE), *(len(row.note) for row in rows)]))
    shown, room = _fitting(filled, width, note_chars)
    if room < note_chars:
        shown, _ = _fitting(filled, width, -GAP)
    table = Table(box=None, pad_edge=False, header_style="bold", footer_style="bold", show_footer=bool(rows))
    for each in shown:
        justify: Literal["left", "right"] = "right" if each.column.right else "left"
        table.add_column(each.column.title, footer=each.total, justify=justify, no_wrap=True, min_width=each.chars)
    notes: list[list[Text]] = [[] for _ in rows]
    if room >= note_chars:
        table.add_column(NOTE_TITLE, no_wrap=not whole_notes, overflow="fold" if whole_notes else "ellipsis")
        notes = [[Text(_note(row) if whole_notes else _note(row)[:NOTE_CHARS])] for row in rows]
    for index, note in enumerate(notes):
        table.add_row(*(each.cells[index] for each in shown), *note)
    return table


def _filled(column: _Column, rows: Sequence[Row], at_s: float) -> _Filled:
    return _Filled(column, [_text(column.cell(row, at_s)) for row in rows], column.total(rows))


def _fitting(columns: Sequence[_Filled], width: int, note_chars: int) -> tuple[Sequence[_Filled], int]:
    """Return the columns that leave room for a note, if leaving out what can be spared achieves that; and that room."""
    room = width - sum(each.chars + GAP for each in columns)
    dearest = max(columns, key=lambda each: each.column.spare)
    if room >= note_chars or not dearest.column.spare:
        return columns, room
    return _fitting([each for each in columns if each is not dearest], width, note_chars)


def _note(row: Row) -> str:
    return plain(row.note)[:NOTE_CHARS_MAX]


def _text(cell: Text | str) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _style(row: Row) -> str:
    if row.started_s is None:
        return "dim"
    return {None: "yellow", True: "green", False: "red"}[row.ok]


def _limit(*rows: Row) -> str:
    return dollars(sum(row.limit_pusd for row in rows), DECIMALS)


def _refused(rows: Sequence[Row]) -> str:
    return f"{sum(row.balance.refused for row in rows):,}"


def _time(row: Row, at_s: float) -> str:
    return f"{row.seconds(at_s):.1f}s" if row.started_s is not None else ""


def _tokens(row: Row) -> int:
    return row.balance.prompt_tokens + row.balance.completion_tokens


def money(amount_pusd: int) -> str:
    """Return an amount in dollars with four decimals, for the eye; the ledger keeps the exact one."""
    return f"${usd(amount_pusd):.{DECIMALS}f}"


def files_line(run_dir: Path) -> str:
    """Return where a run's files are, in one line."""
    return f"files: {run_dir}"
