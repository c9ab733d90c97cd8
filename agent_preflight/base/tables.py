"""Tables for people, one look for all commands: whole figures, and no line longer than the reader's.

Nothing that an agent wrote reaches the terminal as an escape or as markup.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from agent_preflight.base.config import variable
from agent_preflight.base.console import say
from agent_preflight.base.terminal import plain
from agent_preflight.base.usd import usd

if TYPE_CHECKING:  # rich is loaded once something is laid out: plain data must not wait for it
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH = 80
"""Characters of a line where nobody says how wide it may be: in a file, in a pipe, in text that is returned."""
GAP = 2
"""Characters between two columns."""
NOTE_CHARS_MIN = 60
"""What a long note needs to be read in a column; where there is less, notes stand beneath the table."""
LIVE_NOTE_CHARS_MIN = 24
"""For that much of a note a live table does without columns."""
NAME_CHARS_MIN = 8
"""A name, or a head, goes on in a second line, of so many characters at least, where figures would not be whole otherwise."""
NOTE_CHARS_MAX = 400
"""An agent may have worded it."""
ROWS_AT_ONCE = 500
"""Rows that are laid out together: a ledger has a hundred thousand, and the first are to be read at once."""
DECIMALS = 4
"""Of an amount, for the eye; the ledger keeps the exact one."""

Cell: TypeAlias = "str | Text"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column.

    Attributes:
        title: Its head.
        right: Its cells stand at the right, as figures do.
        spare: How early a narrow table does without it: the highest goes first, 0 never goes. One that may go and is empty is
            left out, unless the table is live.
        fold: Characters that it needs at least if its cells are words that may go on in further lines; else 0.
    """

    title: str
    right: bool = False
    spare: int = 0
    fold: int = 0


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table.

    Attributes:
        columns: Its columns.
        rows: A cell for each column. Text is made plain; a `Text` is not, it brings its own colours.
        total: The last line's cells; none if empty.
        notes: A remark on each row: in a last column, or in lines beneath if that has no room. Not folded if `live`.
        note_title: The head of that column.
        live: The table is drawn again and again: each row is one line.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[str] = ()
    notes: Sequence[str] = ()
    note_title: str = "note"
    live: bool = False

    def fitted(self, width: int) -> Group:
        """Return the table for lines of so many characters."""
        from rich.console import Group

        return Group(*self.parts(width))

    def parts(self, width: int) -> Iterator[RenderableType]:
        """Yield the table in slices of rows, then the notes that have no room in it."""
        from rich.cells import cell_len
        from rich.text import Text

        rows = [[_text(cell) for cell in row] for row in self.rows]
        notes = [plain(note)[:NOTE_CHARS_MAX].strip() for note in self.notes]
        filled = [_filled(index, column, rows, self.total) for index, column in enumerate(self.columns)]
        filled = [each for each in filled if self.live or not each.is_idle(rows)]
        note_chars = max(map(cell_len, (self.note_title, *notes))) if any(notes) else 0
        note_min = min(note_chars, LIVE_NOTE_CHARS_MIN if self.live else NOTE_CHARS_MIN)
        shown, room = _fitting(filled, width, note_min + GAP if self.live and note_chars else 0)
        beside = bool(note_chars) and room >= note_min + GAP
        if not beside:
            shown, room = _fitting(filled, width, 0)
        widths = _widths(shown, room - (note_min + GAP if beside else 0))
        note_width = min(note_chars, width - sum(widths) - GAP * len(widths)) if beside else 0
        for first in range(0, max(len(rows), 1), ROWS_AT_ONCE):
            last = first + ROWS_AT_ONCE >= len(rows)
            table = self._slice(shown, widths, note_width, head=first == 0, foot=last)
            for index, row in enumerate(rows[first : first + ROWS_AT_ONCE], first):
                table.add_row(*(row[each.index] for each in shown), *([Text(notes[index])] if beside else ()))
            yield table
        if note_chars and not beside and not self.live:
            yield from (Text(f"{row[0].plain}: {note}") for row, note in zip(rows, notes, strict=True) if note)

    def _slice(
        self, shown: Sequence[_Filled], widths: Sequence[int], note_width: int, *, head: bool, foot: bool
    ) -> Table:
        from rich.table import Table

        table = Table(
            box=None,
            pad_edge=False,
            show_header=head,
            header_style="bold",
            footer_style="bold",
            show_footer=foot and bool(self.total),
        )
        for each, width in zip(shown, widths, strict=True):
            justify: Literal["left", "right"] = "right" if each.column.right else "left"
            whole = self.live or width >= each.chars
            table.add_column(
                each.column.title,
                each.total,
                justify=justify,
                width=width,
                no_wrap=whole,
                overflow="ellipsis" if self.live else "fold",
            )
        if note_width:
            table.add_column(
                self.note_title, width=note_width, no_wrap=self.live, overflow="ellipsis" if self.live else "fold"
            )
        return table


@dataclass(frozen=True, slots=True)
class _Filled:
    """A column as it is filled: its place, its total, how wide it is, and how narrow it may be."""

    index: int
    column: TableColumn
    total: str
    chars: int
    chars_min: int

    def is_idle(self, rows: Sequence[Sequence[Text]]) -> bool:
        """Whether it can be spared and tells nothing of any row."""
        return bool(self.column.spare and rows) and not any(row[self.index].plain for row in rows)


def _filled(index: int, column: TableColumn, rows: Sequence[Sequence[Text]], total: Sequence[str]) -> _Filled:
    from rich.cells import cell_len

    last = total[index] if total else ""
    chars = max(map(cell_len, (column.title, last, *(row[index].plain for row in rows))))
    return _Filled(
        index, column, last, chars, min(chars, max(column.fold, len(column.title))) if column.fold else chars
    )


def _fitting(columns: Sequence[_Filled], width: int, needed: int) -> tuple[Sequence[_Filled], int]:
    """Return the columns that leave the room that is needed, if leaving out what can be spared achieves that; and the room."""
    room = width - sum(each.chars_min + GAP for each in columns) + GAP
    dearest = max(columns, key=lambda each: each.column.spare)
    if room >= needed:
        return columns, room
    if dearest.column.spare:
        return _fitting([each for each in columns if each is not dearest], width, needed)
    if room < 0:
        columns = [_narrowed(each) for each in columns]
        room = width - sum(each.chars_min + GAP for each in columns) + GAP
    return columns, room


def _narrowed(filled: _Filled) -> _Filled:
    """A name's column at its narrowest; a figure's as it is."""
    if filled.column.right:
        return filled
    return replace(filled, chars_min=min(filled.chars_min, NAME_CHARS_MIN))


def _widths(columns: Sequence[_Filled], room: int) -> list[int]:
    """Return each column's width: what it needs at least, and a fair part of the room where it would have more."""
    widths = [each.chars_min for each in columns]
    while room > 0 and (short := [n for n, each in enumerate(columns) if widths[n] < each.chars]):
        for index in short[:room]:
            widths[index] += 1
        room -= len(short)
    return widths


def _text(cell: Cell) -> Text:
    from rich.text import Text

    return cell if isinstance(cell, Text) else Text(plain(cell))


def show(*parts: TextTable | str, stream: TextIO | None = None) -> None:
    """Print tables and lines, as wide as the terminal, or `WIDTH` (or COLUMNS) in a pipe. Lines are made plain, and not cut.

    Args:
        parts: In their order.
        stream: Where to; standard output if not given.
    """
    console = _console(stream or sys.stdout)
    for part in parts:
        for text in _rendered(part, console):
            say(text, stream)


def text_of(*parts: TextTable | str, width: int = WIDTH) -> str:
    """Return tables and lines as text, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    return "\n".join(text for part in parts for text in _rendered(part, console))


def _rendered(part: TextTable | str, console: Console) -> Iterator[str]:
    if isinstance(part, str):
        yield plain(part)
        return
    for piece in part.parts(console.width):
        with console.capture() as captured:
            console.print(piece)
        text = captured.get().removesuffix("\n")
        yield text if console.is_terminal else "\n".join(line.rstrip() for line in text.split("\n"))


def width_of(stream: TextIO) -> int:
    """Return how many characters a line may have on a stream."""
    return _console(stream).width


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    if stream.isatty():
        return Console(file=stream)
    columns = variable("COLUMNS") or ""
    return Console(file=stream, width=int(columns) if columns.isdecimal() and int(columns) > 0 else WIDTH)


def money(amount_pusd: int) -> str:
    """Return an amount in dollars with four decimals, for the eye."""
    return f"{'-' if amount_pusd < 0 else ''}${abs(usd(amount_pusd)):.{DECIMALS}f}"


def duration(seconds: float) -> str:
    """Return how long something takes or took: `3.6s`, `4m05s`, `2h03m`, `5d`."""
    whole = round(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d"
