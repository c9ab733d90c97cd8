"""Tables for people, with one look for all commands: figures are whole, and no line is wider than the reader's.

Nothing that an agent wrote reaches the terminal as an escape or as markup.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TextIO, TypeAlias, TypeVar

import msgspec

from agent_preflight.base.config import variable
from agent_preflight.base.console import say
from agent_preflight.base.usd import dollars, usd
from preflight_proxy.core.terminal import plain

if TYPE_CHECKING:  # rich is loaded when something is laid out: plain data must not wait for it
    from rich.console import Console, Group
    from rich.text import Text

WIDTH = 80
"""Characters of a line in a file, in a pipe and in text that is returned."""
GAP = 2
"""Characters between two columns."""
NOTE_CHARS_MIN = 60
"""A column of long notes needs this width. With less room, notes stand beneath the table."""
NAME_CHARS_MIN = 8
"""If figures would have no room otherwise, names and heads are wrapped to this width."""
NOTE_CHARS_MAX = 400
"""A longer note is cut, because an agent may have worded it."""
DECIMALS = 4
"""Decimals of an amount in a table; the ledger keeps the exact amount."""

T = TypeVar("T")
Cell: TypeAlias = "str | Text"
Part: TypeAlias = "TextTable | Text | str"
"""What is printed: a table, a paragraph that is wrapped at the reader's width, or a line that is not."""


class TableColumn(msgspec.Struct, frozen=True):
    """One column.

    Attributes:
        title: Its head.
        right: Its cells are aligned to the right, as figures are.
        spare: 0 for a column that always stays. Of the others, a narrow table leaves out the one with the highest number first.
            Empty ones are left out too, unless the table is live.
        fold: For cells of several words, which may be wrapped: the width that they need at least; else 0.
    """

    title: str
    right: bool = False
    spare: int = 0
    fold: int = 0


class ComputedColumn(TableColumn, Generic[T], frozen=True, kw_only=True):
    """A column that makes its cells.

    Attributes:
        cell: Makes the cell of a row from the item that the row shows.
        total: Makes the cell of the last line from all items.
    """

    cell: Callable[[T], Cell]
    total: Callable[[Sequence[T]], str] = lambda items: ""


class TextTable(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
        columns: Its columns.
        rows: A cell for each column. Text is made plain. A rich `Text` is not: it has its own colours.
        total: The last line's cells; empty for a table without totals.
        notes: A remark on each row: in a last column, or in lines beneath if that has no room. For a table that is not live.
        live: The table is drawn again and again: each row is one line.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[str] = ()
    notes: Sequence[str] = ()
    live: bool = False

    def fitted(self, width: int) -> Group:
        """Return the table for lines of `width` characters, and beneath it the notes that have no room in it."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        total = self.total or [""] * len(self.columns)
        cells = [[_text(cell) for cell in row] for row in self.rows]
        columns = [_filled(column, [row[n] for row in cells], total[n]) for n, column in enumerate(self.columns)]
        shown = [each for each in columns if self.live or not each.is_idle]
        texts = [Text(plain(note)[:NOTE_CHARS_MAX].strip()) for note in self.notes]
        notes = _filled(TableColumn("note", spare=sys.maxsize, fold=NOTE_CHARS_MIN), texts)
        widths = _fitted([*shown, notes] if any(texts) else shown, width)
        table = Table(box=None, pad_edge=False, header_style="bold", footer_style="bold", show_footer=bool(self.total))
        for each, chars in widths.items():
            table.add_column(
                each.column.title,
                each.total,
                justify="right" if each.column.right else "left",
                width=chars,
                no_wrap=self.live,
                overflow="ellipsis" if self.live else "fold",
            )
        for row in zip(*(each.cells for each in widths), strict=True):
            table.add_row(*row)
        if notes in widths:
            return Group(table)
        names = (row[0].plain for row in cells)
        return Group(table, *(Text(f"{name}: {note.plain}") for name, note in zip(names, texts, strict=False) if note))


class _FilledColumn(msgspec.Struct, eq=False, frozen=True):
    """A column with its cells, the width that shows them whole, and the width that it needs at least."""

    column: TableColumn
    cells: Sequence[Text]
    total: str
    chars: int
    chars_min: int

    @property
    def is_idle(self) -> bool:
        """Whether it may be left out and its rows are empty."""
        return bool(self.column.spare and self.cells) and not any(self.cells)


def _filled(column: TableColumn, cells: Sequence[Text], total: str = "") -> _FilledColumn:
    from rich.cells import cell_len

    chars = max(map(cell_len, (column.title, total, *(cell.plain for cell in cells))))
    chars_min = min(chars, max(column.fold, len(column.title))) if column.fold else chars
    return _FilledColumn(column, cells, total, chars, chars_min)


def _fitted(columns: Sequence[_FilledColumn], width: int) -> dict[_FilledColumn, int]:
    """Return the columns that have room in a line, with their widths. If they need more, the widest are made narrower."""
    least = {each: each.chars_min for each in columns}
    while _excess(least, width) > 0 and (last := max(least, key=lambda each: each.column.spare)).column.spare:
        del least[last]
    if _excess(least, width) > 0:
        least = {each: n if each.column.right else min(n, NAME_CHARS_MIN) for each, n in least.items()}
    widths = {each: each.chars for each in least}
    while _excess(widths, width) > 0 and (wrapped := [each for each in least if widths[each] > least[each]]):
        widths[max(wrapped, key=lambda each: widths[each])] -= 1
    return widths


def _excess(widths: Mapping[_FilledColumn, int], width: int) -> int:
    """Return how many characters columns of these widths have too many for a line."""
    return sum(widths.values()) + GAP * (len(widths) - 1) - width


def _text(cell: Cell) -> Text:
    from rich.text import Text

    return cell if isinstance(cell, Text) else Text(plain(cell))


def table_of(
    columns: Sequence[ComputedColumn[T]],
    items: Sequence[T],
    notes: Sequence[str] = (),
    *,
    with_total: bool = False,
    live: bool = False,
) -> TextTable:
    """Return the table that shows some items, one in a row."""
    return TextTable(
        columns,
        [[column.cell(item) for column in columns] for item in items],
        [column.total(items) for column in columns] if with_total else (),
        notes,
        live,
    )


def show(*parts: Part, stream: TextIO | None = None) -> None:
    """Print tables and lines, as wide as the terminal, or `WIDTH` (or COLUMNS) in a pipe. Lines are made plain, not cut.

    Args:
        parts: The tables and lines, in order.
        stream: Standard output by default.
    """
    console = _console(stream or sys.stdout)
    for part in parts:
        for text in _rendered(part, console):
            say(text, stream)


def text_of(*parts: Part, width: int = WIDTH) -> str:
    """Return tables and lines as text, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    return "\n".join(text for part in parts for text in _rendered(part, console))


def _rendered(part: Part, console: Console) -> Iterator[str]:
    """Yield the lines of a table as they are laid out, so that a long one begins at once."""
    from rich.segment import Segment, Segments

    if isinstance(part, str):
        yield plain(part)
        return
    shown = part.fitted(console.width) if isinstance(part, TextTable) else part
    for line in Segment.split_lines(console.render(shown)):
        if not console.is_terminal:
            yield "".join(segment.text for segment in line).rstrip()
            continue
        with console.capture() as captured:
            console.print(Segments(line), end="")
        yield captured.get()


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
    """Return an amount in dollars, rounded to four decimals."""
    return f"{'-' if amount_pusd < 0 else ''}${abs(usd(amount_pusd)):.{DECIMALS}f}"


def exact_money(amount_pusd: int) -> str:
    """Return an amount in dollars with four decimals, or as many more as it has."""
    return dollars(amount_pusd, DECIMALS)


def counted(count: int, thing: str) -> str:
    """Return a number with its noun: `1 model`, `2 models`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


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
