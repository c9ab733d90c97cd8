"""A run as people follow it."""

import io
from contextlib import closing
from pathlib import Path

import pytest

from agent_preflight.launch.run_view import LineView, TableView, run_view
from agent_preflight.runner.progress import TrialProgress
from tests.support.run_on_disk import alive, begin, keep_ledger, plan
from tests.support.terminal import Screen


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run from, and whatever is said of it."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_pipe_gets_lines_and_no_escapes() -> None:
    stream = io.StringIO()
    view = run_view(stream)
    assert isinstance(view, LineView)
    with closing(view):
        view.progress.put(TrialProgress("a", "m/m", 1))
        view.progress.update("a", state="running", started_s=1.0)
        view.progress.update("a", state="done", ok=True)
        view.say("[a] hello")
    assert stream.getvalue().splitlines() == ["[a] done: $0.0000 spent, 0 calls", "[a] hello"]


def test_a_terminal_gets_a_table_that_renews_itself_from_the_runs_folder(tmp_path: Path) -> None:
    run = plan(tmp_path / "run-1", "greedy", "later")
    begin(run, "greedy", {"type": "agent_start"})
    keep_ledger(run, "greedy")
    terminal = Screen()
    view = run_view(terminal)
    assert isinstance(view, TableView)
    with alive(run), closing(view):
        view.progress.begin(run, "run-1: press Ctrl-C to stop it")
        view.say("not shown")
        view.progress.alert("no credit\x1b[31m left")
        terminal.until("$0.0100")
    shown = terminal.getvalue()
    assert "no credit left\n" in shown
    assert "run-1: press Ctrl-C to stop it" in shown
    assert "not shown" not in shown


def test_a_terminal_shows_no_table_before_the_trials_begin() -> None:
    terminal = Screen()
    view = run_view(terminal)
    with closing(view):
        view.progress.put(TrialProgress("a", "m/m", 1))
        view.progress.alert("stopping")
    assert terminal.getvalue() == "stopping\n"


def test_a_terminal_that_cannot_renew_a_table_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(run_view(Screen()), LineView)
