"""A run as people follow it."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from msgspec.structs import replace

from agent_preflight.base.tables import text_of
from agent_preflight.launch import run_view as table
from agent_preflight.launch.run_view import LineView, LiveView, print_table, run_table, run_view
from agent_preflight.runner.progress import TrialProgress
from preflight_proxy.base.control_messages import Balance
from tests.support import terminal as terminals


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run from, and whatever is said of it."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


ROW = TrialProgress(
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


def lines_of(rows: list[TrialProgress], width: int, *, live: bool = False) -> list[str]:
    return text_of(run_table(rows, 10.0, live=live), width=width).splitlines()


def test_a_row_has_status_calls_tokens_cost_limit_and_what_ended_it() -> None:
    assert lines_of([ROW], 200)[1].split()[:10] == [
        *("greedy", "m/m", "ejected", "1,234", "2", "1,000", "$0.1235", "$0.2500", "2.5s", "budget"),
    ]


def test_the_table_of_a_run_at_80_columns() -> None:
    rows = [replace(ROW, alias="claude-sonnet-4", model_id="anthropic/claude-sonnet-4.5", note=NOTE), ROW]
    rows.append(replace(ROW, alias="thrifty", state="done", note="done", ok=True))
    assert lines_of(rows, 80) == [
        "trial            status   calls  refused  tokens     cost    limit  time",
        "claude-sonnet-4  ejected  1,234        2   1,000  $0.1235  $0.2500  2.5s",
        "greedy           ejected  1,234        2   1,000  $0.1235  $0.2500  2.5s",
        "thrifty          done     1,234        2   1,000  $0.1235  $0.2500  2.5s",
        "TOTAL                     3,702        6   3,000  $0.3704  $0.7500",
        "claude-sonnet-4: budget exhausted ($0.2422 of $0.2500): the cheapest call needs",
        "$0.0101, and nothing more is coming back",
        "greedy: budget [bold]exhausted",
    ]


def test_the_live_table_has_a_line_for_each_trial_and_cuts_what_ended_it() -> None:
    lines = lines_of([replace(ROW, note=NOTE)], 80, live=True)
    assert len(lines) == 3
    assert lines[1].startswith("greedy  ejected  1,234")
    assert lines[1].endswith("…")


def test_what_agents_say_is_neither_escape_nor_markup() -> None:
    text = text_of(run_table([ROW], 10.0), width=200)
    assert "\x1b" not in text
    assert "[bold]exhausted" in text


def test_the_last_line_has_the_sums() -> None:
    last = lines_of([ROW, replace(ROW, alias="b")], 200)[-1]
    assert last.split() == ["TOTAL", "2,468", "4", "2,000", "$0.2469", "$0.5000"]


def test_a_limit_is_shown_as_it_is() -> None:
    assert "$0.000025" in lines_of([replace(ROW, limit_pusd=25_000_000)], 200)[-1].split()


def test_a_pipe_gets_lines_and_no_escapes() -> None:
    stream = io.StringIO()
    view = run_view(stream)
    assert isinstance(view, LineView)
    with closing(view):
        view.progress.put(TrialProgress("a", "m/m", 1))
        view.progress.update("a", state="running", started_s=1.0)
        view.progress.update("a", state="done", ok=True)
        view.say("[a] hello")
    print_table(view.progress.rows(), stream)
    assert stream.getvalue().splitlines()[:2] == ["[a] done: $0.0000 spent, 0 calls", "[a] hello"]
    assert "\x1b" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class SlowTerminal(Terminal):
    """Other threads go on while it is written to, as with a real one."""

    def write(self, text: str) -> int:
        time.sleep(0.0005)
        return super().write(text)


def test_a_terminal_gets_a_table_that_renews_itself() -> None:
    terminal = Terminal()
    view = run_view(terminal)
    assert isinstance(view, LiveView)
    with closing(view):
        view.progress.put(ROW)
        view.progress.begin("run-1: press Ctrl-C to stop it")
        view.say("not shown")
        view.progress.alert("no credit\x1b[31m left")
    assert "no credit left\n" in terminal.getvalue()
    assert "greedy" in terminal.getvalue()
    assert "run-1: press Ctrl-C to stop it" in terminal.getvalue()
    assert "not shown" not in terminal.getvalue()


def test_a_terminal_shows_no_table_before_the_trials_begin() -> None:
    terminal = Terminal()
    view = run_view(terminal)
    with closing(view):
        view.progress.put(ROW)
        view.progress.alert("stopping")
    assert terminal.getvalue() == "stopping\n"


def test_what_many_threads_print_meanwhile_stands_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "REFRESH_PER_S", 2000)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    terminal = SlowTerminal()
    view = run_view(terminal)

    def warn(number: int) -> None:
        view.progress.title = "a title of one, two or three lines " * (number % 3 * 2)
        view.progress.alert(f"warning {number}")

    with closing(view), ThreadPoolExecutor(4) as pool:
        view.progress.put(ROW)
        view.progress.begin("a title")
        list(pool.map(warn, range(400)))
    screen = terminals.Terminal(60, 24)
    screen.write(terminal.getvalue().replace("\n", "\r\n"))
    assert sorted(screen.lines()) == sorted(f"warning {n}" for n in range(400))


def test_a_terminal_that_cannot_renew_a_table_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(run_view(Terminal()), LineView)
