"""Tables for people: whole figures, no line too long, nothing but text."""

import io

import pytest
from rich.text import Text

from agent_preflight.base.tables import (
    ComputedColumn,
    TableColumn,
    TextTable,
    duration,
    money,
    show,
    table_of,
    text_of,
    width_of,
)

COLUMNS = (
    TableColumn("trial"),
    TableColumn("model", spare=2),
    TableColumn("calls", right=True),
    TableColumn("cost", right=True),
    TableColumn("time", right=True, spare=1),
    TableColumn("meaning", fold=12),
)
ROWS = (
    ("nano", "openai/gpt-4.1-nano", "12", "$0.1235", "2.5s", "the prompt only grew, and the cache was young"),
    ("claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", "1,234", "$10.0000", "1m15s", "first call"),
)
TABLE = TextTable(COLUMNS, ROWS, total=("TOTAL", "", "1,246", "$10.1235", "", ""))


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests independent of the terminal that they run in."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def words(text: str) -> list[str]:
    return text.split()


def test_at_80_columns_a_spare_column_is_left_out_and_words_are_wrapped() -> None:
    assert text_of(TABLE).splitlines() == [
        "trial              calls      cost   time  meaning",
        "nano                  12   $0.1235   2.5s  the prompt only grew, and the cache",
        "                                           was young",
        "claude-sonnet-4-5  1,234  $10.0000  1m15s  first call",
        "TOTAL              1,246  $10.1235",
    ]


@pytest.mark.parametrize("width", range(46, 140))
def test_no_line_is_too_long_and_no_figure_is_cut_at_any_width(width: int) -> None:
    lines = text_of(TABLE, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert {"12", "1,234", "1,246", "$0.1235", "$10.0000", "$10.1235"} <= set(words("\n".join(lines)))


def test_a_name_is_wrapped_only_if_figures_would_have_no_room() -> None:
    narrow, wide = (text_of(TextTable(COLUMNS[:1] + COLUMNS[2:4], [(r[0], r[2], r[3]) for r in ROWS]), width=w)
                    for w in (33, 34))  # fmt: skip
    assert ("claude-sonnet-4-5" in narrow, "claude-sonnet-4-5" in wide) == (False, True)
    assert "claude-sonnet-4-" in narrow


def noted(*notes: str) -> TextTable:
    return TextTable(COLUMNS[:1], [(row[0],) for row in ROWS], notes=notes)


def live(meaning: str) -> TextTable:
    return TextTable((COLUMNS[0], COLUMNS[5]), [("claude-sonnet-4-5", meaning)], live=True)


LONG = "the budget of $0.25 is spent: it did not cover the last call (the agent ended with exit code 3)"


def test_notes_stand_in_a_column_if_there_is_room_and_beneath_the_table_if_not() -> None:
    assert text_of(noted("", LONG), width=79).splitlines() == [
        "trial              note",
        "nano",
        "claude-sonnet-4-5  the budget of $0.25 is spent: it did not cover the last call",
        "                   (the agent ended with exit code 3)",
    ]
    assert text_of(noted("", LONG), width=78).splitlines() == [
        "trial",
        "nano",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5: the budget of $0.25 is spent: it did not cover the last",
        "call (the agent ended with exit code 3)",
    ]
    assert text_of(noted("", "short"), width=26).splitlines()[2] == "claude-sonnet-4-5  short"


def test_without_any_note_there_is_no_column_for_them() -> None:
    assert text_of(noted("", "")).splitlines()[0] == "trial"


def test_a_live_table_has_one_line_for_each_row() -> None:
    assert text_of(live(LONG), width=50).splitlines()[1:] == ["claude-sonnet-4-5  the budget of $0.25 is spent: …"]


HOSTILE = "\x1b[2J\x1b]0;owned\x07a\nb\x9b31m[bold red]c[/]\u202ed"


def test_text_of_agents_becomes_no_escape_no_markup_and_no_second_line() -> None:
    text = text_of(TextTable(COLUMNS[:1], [(HOSTILE,)], notes=[HOSTILE]), HOSTILE)
    assert [line for line in text.splitlines() if "\x1b" in line or "\u202e" in line or "\x9b" in line] == []
    assert len(text.splitlines()) == 3
    assert text.count("a b[bold red]c[/] d") == 3


def test_an_empty_spare_column_is_left_out_unless_the_table_is_live() -> None:
    rows, total = [("nano", "", "1"), ("mini", "", "2")], ("TOTAL", "0", "3")
    for live, head in ((False, ["trial", "calls"]), (True, ["trial", "model", "calls"])):
        assert text_of(TextTable(COLUMNS[:3], rows, total, live=live)).splitlines()[0].split() == head


def test_no_row_of_a_long_table_is_missing() -> None:
    many = [(f"t{number}", "x" * (number % 7)) for number in range(1000)]
    lines = text_of(TextTable(COLUMNS[:2], many, total=("TOTAL", ""))).splitlines()
    assert [line.split()[0] for line in lines] == ["trial", *(row[0] for row in many), "TOTAL"]
    assert {line.index("x") for line in lines if "x" in line} == {lines[0].index("model")}


def test_a_live_table_cuts_no_name_for_words_that_can_be_cut() -> None:
    assert text_of(live(LONG), width=31).splitlines()[1].split()[0] == "claude-sonnet-4-5"


def test_a_paragraph_is_wrapped_and_made_no_markup() -> None:
    assert text_of(Text("nano [b]is[/] the best"), width=12).splitlines() == ["nano", "[b]is[/] the", "best"]


def test_columns_make_their_cells_and_their_sums_from_items() -> None:
    columns: tuple[ComputedColumn[tuple[str, int]], ...] = (
        ComputedColumn("trial", cell=lambda item: item[0], total=lambda items: "TOTAL"),
        ComputedColumn(
            "calls",
            right=True,
            cell=lambda item: f"{item[1]:,}",
            total=lambda items: f"{sum(calls for _, calls in items):,}",
        ),
        ComputedColumn("cost", cell=lambda item: money(item[1])),
    )
    table = table_of(columns, [("a", 1000), ("c", 0)], with_total=True)
    assert [list(row) for row in table.rows] == [["a", "1,000", "$0.0000"], ["c", "0", "$0.0000"]]
    assert table.total == ["TOTAL", "1,000", ""]
    assert table_of(columns, []).total == ()


def test_a_table_without_rows_is_its_head() -> None:
    assert text_of(TextTable(COLUMNS[:2], [])) == "trial  model"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_no_colours_and_80_columns_unless_columns_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    table = TextTable(COLUMNS[:1], [(Text("red", style="red"),)])
    show(table, "beneath\x1b[31m", stream=stream)
    assert stream.getvalue() == "trial\nred\nbeneath\n"
    assert width_of(stream) == 80
    for columns, width in (("132", 132), ("0", 80), ("wide", 80)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width_of(stream) == width


def test_a_terminal_gets_colours_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = TextTable(COLUMNS[:1], [(Text("red", style="red"),)])
    coloured, plain = Terminal(), Terminal()
    show(table, stream=coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    show(table, stream=plain)
    assert ("\x1b[31m" in coloured.getvalue(), "\x1b[31m" in plain.getvalue()) == (True, False)


def test_a_character_that_the_encoding_lacks_is_replaced() -> None:
    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding="ascii")
    show(TextTable(COLUMNS[:1], [("modèle",)]), stream=stream)
    assert binary.getvalue() == b"trial\nmod?le\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (3.64, "3.6s"), (59.96, "1m00s"), (245, "4m05s"), (3599.6, "1h00m"), (7380, "2h03m"), (5e5, "5d")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_amount_has_four_decimals() -> None:
    assert (money(1_234_567_890_000), money(-2_500_000_000)) == ("$1.2346", "-$0.0025")
