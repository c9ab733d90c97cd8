"""A run as people follow it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from agent_preflight.control_client import Balance
from agent_preflight.runner.board import Row
from agent_preflight.table import LineView, LiveView, finished_table, money, print_table, run_view, table_of


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run from, and whatever is said of it."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


ROW = Row(
    "greedy",
    "m/m",
    250_000_000_000,
    state="ejected",
    balance=Balance(posted_pusd=123_456_789_000, calls=1234, refused=2, prompt_tokens=900, completion_tokens=100),
    started_s=1.0,
    ended_s=3.5,
    note="budget\x1b[31m [bold]exhausted",
    ok=False,
)

NOTE = "budget exhausted ($0.2422 of $0.2500): the cheapest call needs $0.0101, and nothing more is coming back"


def finished(rows: list[Row], width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(finished_table(rows, 10.0, width))
    return stream.getvalue().splitlines()


def text_of(*rows: Row) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(table_of(rows, 10.0))
    return stream.getvalue()


def test_a_row_has_status_calls_tokens_spend_limit_and_what_ended_it() -> None:
    line = text_of(ROW).splitlines()[1]
    assert line.split()[:10] == [
        "greedy",
        "m/m",
        "ejected",
        "1,234",
        "2",
        "1,000",
        "$0.1235",
        "$0.2500",
        "2.5s",
        "budget",
    ]


def test_a_narrow_terminal_gets_fewer_columns_and_whole_figures() -> None:
    stream = io.StringIO()
    Console(file=stream, width=72).print(table_of([ROW], 10.0, 72))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:6] == ["greedy", "ejected", "1,234", "2", "1,000", "$0.1235"]


def test_no_width_cuts_a_word_of_a_finished_run() -> None:
    """At both ends of every range of widths that have the same columns: words have least room at the narrow one."""
    rows = [replace(ROW, alias="claude-sonnet-4", model_id="anthropic/claude-sonnet-4.5", note=NOTE), ROW]
    words = {*NOTE.split(), "claude-sonnet-4", "$0.2469", "1,234"}
    columns = {width: len(table_of(rows, 10.0, width, whole_notes=True).columns) for width in range(57, 201)}
    ends = [width for width in range(58, 200) if not columns[width - 1] == columns[width] == columns[width + 1]]
    assert len(ends) >= 2 * len(set(columns.values())) - 2
    for width in (58, *ends, 199):
        lines = finished(rows, width)
        assert words <= {word for line in lines for word in line.split()}, width
        assert max(map(len, lines)) <= width


def test_a_very_narrow_terminal_tells_what_ended_trials_beneath() -> None:
    assert finished([replace(ROW, note="time limit")], 58)[-1] == "greedy: time limit"


def test_what_agents_say_is_neither_escape_nor_markup() -> None:
    assert "\x1b" not in text_of(ROW)
    assert "[bold]exhausted" in text_of(ROW)


def test_the_last_line_has_the_sums() -> None:
    last = text_of(ROW, replace(ROW, alias="b")).splitlines()[-1]
    assert last.split() == ["TOTAL", "2,468", "4", "2,000", "$0.2469", "$0.5000"]


def test_a_limit_is_shown_as_it_is() -> None:
    assert "$0.000025" in text_of(replace(ROW, limit_pusd=25_000_000)).splitlines()[-1].split()


def test_a_pipe_gets_lines_and_no_escapes() -> None:
    stream = io.StringIO()
    view = run_view(stream)
    assert isinstance(view, LineView)
    with view:
        view.board.put(Row("a", "m/m", 1))
        view.board.update("a", state="running", started_s=1.0)
        view.board.update("a", state="done", ok=True)
        view.say("[a] hello")
    print_table(view.board.rows(), stream)
    assert stream.getvalue().splitlines()[:2] == ["[a] done: $0.0000 spent, 0 calls", "[a] hello"]
    assert "\x1b" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_that_renews_itself() -> None:
    terminal = Terminal()
    view = run_view(terminal)
    assert isinstance(view, LiveView)
    with view:
        view.board.title = "run-1: press Ctrl-C to stop it"
        view.board.put(ROW)
        view.say("not shown")
        view.board.alert("no credit\x1b[31m left")
    assert "no credit left\n" in terminal.getvalue()
    assert "greedy" in terminal.getvalue()
    assert "run-1: press Ctrl-C to stop it" in terminal.getvalue()
    assert "not shown" not in terminal.getvalue()


def test_a_terminal_that_cannot_renew_a_table_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(run_view(Terminal()), LineView)


def test_amounts_are_for_the_eye() -> None:
    assert money(1_234_567_890_000) == "$1.2346"


def test_what_ended_a_trial_is_told_whole_when_it_is_over() -> None:
    lines = finished([replace(ROW, note=NOTE)], 80)
    at = lines[0].index("ended by")
    assert " ".join(line[at:].strip() for line in lines[1:-1]).split() == NOTE.split()
