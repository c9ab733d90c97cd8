"""A run on a terminal, drawn again and again from its folder."""

import io
import re
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent_preflight.views.live_view import LiveView, can_renew, watch
from tests.support.figures import ended, run, trial
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan
from tests.support.terminal import CTRL_C, Screen, Step, Terminal

WATCH = [sys.executable, "-m", "agent_preflight", "status", "run-1", "--watch", "--runs-dir"]
ALT_ON, ALT_OFF = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run from, and whatever is said of it."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def on_screen(written: str, columns: int = 80, rows: int = 24) -> list[str]:
    """Return what a terminal shows of what was written to it."""
    terminal = Terminal(columns, rows)
    terminal.write(written.replace("\n", "\r\n"))
    return terminal.lines()


def test_a_frame_that_is_the_same_is_not_written_again() -> None:
    screen = Screen()
    with closing(LiveView(screen)) as view:
        view.draw(run(trial("a")), "a title")
        written = screen.getvalue()
        view.draw(run(trial("a")), "a title")
        assert screen.getvalue() == written
        view.draw(run(trial("a", calls=1235)), "a title")
        assert "1,235" in screen.getvalue()[len(written) :]
    assert on_screen(screen.getvalue()) == [""]


def test_what_many_threads_print_meanwhile_stands_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    view = LiveView(screen)

    def warn(number: int) -> None:
        if number % 2:
            view.draw(run(trial("a", calls=number)), "a title of one, two or three lines " * (number % 3 * 2))
        else:
            view.alert(f"warning {number}")

    with closing(view), ThreadPoolExecutor(4) as pool:
        list(pool.map(warn, range(400)))
    assert sorted(on_screen(screen.getvalue(), 60)) == sorted(f"warning {n}" for n in range(0, 400, 2))


@pytest.mark.parametrize("columns", [30, 41, 60, 79])
def test_a_terminal_that_is_made_narrower_keeps_nothing_of_the_wrapped_frame(columns: int) -> None:
    """Terminals wrap the lines that are too long then. What stood above the frame stays."""
    screen = Screen()
    with closing(LiveView(screen)) as view:
        view.alert("checks passed")
        view.draw(run(trial("a"), ended("b")), "run-1: " + "press Ctrl-C to stop it " * 5)
        wide = on_screen(screen.getvalue())
        written = len(screen.getvalue())
        view._console.width = columns
        view.draw(run(trial("a"), ended("b")), "run-2")
        wrapped = [line[at : at + columns] for line in wide for at in range(0, max(len(line), 1), columns)]
        lines = on_screen("\n".join(wrapped) + screen.getvalue()[written:], columns, 40)
    assert [line for line in lines if "run-1" in line or "Ctrl" in line] == []
    assert lines[0] == "checks passed"[:columns]
    assert lines[1] == "run-2"
    assert len(lines) == 6


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_a_low_terminal_is_never_exceeded(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setenv("LINES", str(rows))
    screen = Screen()
    with closing(LiveView(screen)) as view:
        view.draw(run(*(trial(f"t{n}") for n in range(30))), "run-1")
        first = screen.getvalue().count("\n")
        view.draw(run(*(trial(f"t{n}", calls=7) for n in range(30))), "run-1")
    assert first < rows


def test_a_dumb_terminal_and_a_pipe_cannot_renew_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_renew(Screen())
    assert not can_renew(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_renew(Screen())


def test_with_no_color_nothing_has_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, coloured in (("1", False), (None, True)):
        if value:
            monkeypatch.setenv("NO_COLOR", value)
        else:
            monkeypatch.delenv("NO_COLOR")
        screen = Screen()
        with closing(LiveView(screen)) as view:
            view.draw(run(trial("a"), ended("b")), "run-1")
        assert bool(re.search(r"\x1b\[(\d+;)*3\dm", screen.getvalue())) == coloured


@contextmanager
def live_run(runs_dir: Path, *aliases: str) -> Iterator[Path]:
    """A run with a trial that runs, until it is left."""
    folder = plan(runs_dir / "run-1", *aliases)
    begin(folder, aliases[0], {**EVENTS[0], "type": "agent_start"})
    keep_ledger(folder, *aliases, pending=True)
    with alive(folder):
        yield folder


def test_a_run_that_is_over_is_printed_once(tmp_path: Path) -> None:
    folder = plan(tmp_path / "run-1", "a")
    finish(folder, "a", {"status": "done"})
    terminal = Terminal(80, 24)
    assert terminal.run([*WATCH, str(tmp_path)]) == 0
    assert (ALT_ON in terminal.shown, terminal.shown.count("1/1 complete")) == (False, 1)


@pytest.mark.parametrize("key", [b"q", b"xq", CTRL_C])
def test_a_key_leaves_and_neither_the_run_nor_the_terminal_is_changed(tmp_path: Path, key: bytes) -> None:
    terminal = Terminal(80, 24)
    with live_run(tmp_path, "a", "b") as folder:
        before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())
        assert terminal.run([*WATCH, str(tmp_path)], steps=[("$0.0100", key)]) == 0
        after = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())
    assert [path for path in after if "ledger" not in path[0].name] == [p for p in before if "ledger" not in p[0].name]
    assert terminal.is_sane
    assert terminal.shown.index(ALT_ON) < terminal.shown.index("$0.0100") < terminal.shown.index(ALT_OFF)
    assert terminal.shown.endswith("\x1b[?25h") or "\x1b[?25h" in terminal.shown.split(ALT_OFF)[0][-20:]
    assert "complete" not in terminal.shown


def test_when_the_run_ends_its_final_table_stays(tmp_path: Path) -> None:
    terminal = Terminal(80, 24)
    with ThreadPoolExecutor(1) as pool:
        with live_run(tmp_path, "a") as folder:
            code = pool.submit(terminal.run, [*WATCH, str(tmp_path)], steps=[("q leaves", b" ")])
            while "$0.0100" not in terminal.shown:
                assert not code.done(), terminal.shown
            finish(folder, "a", {"status": "done"}, duration_s=4)
        assert code.result() == 0
    last = on_screen(terminal.shown.split(ALT_OFF)[1])
    assert last[0] == "Run: run-1"
    assert last[-1] == "1/1 complete"
    assert terminal.is_sane


def test_a_new_size_redraws_the_table_for_it(tmp_path: Path) -> None:
    terminal = Terminal(140, 30)
    with live_run(tmp_path, "a", "b"):
        steps: list[Step] = [("lasts", (60, 24)), ("\x1b[H", (80, 24)), ("cached", b"q")]
        assert terminal.run([*WATCH, str(tmp_path)], steps=steps) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_a_terminal_as_it_was(tmp_path: Path, number: signal.Signals) -> None:
    terminal = Terminal(80, 24)
    with live_run(tmp_path, "a"):
        terminal.run([*WATCH, str(tmp_path)], steps=[("q leaves", number)])
    assert terminal.is_sane
    assert terminal.shown.index(ALT_ON) < terminal.shown.index(ALT_OFF)


def test_ctrl_z_gives_the_terminal_back_until_the_process_goes_on(tmp_path: Path) -> None:
    """A shell with job control would continue it with `fg`; here the parent does."""
    program = f"""
import os, signal, subprocess, sys, termios
sane = termios.tcgetattr(0)
child = subprocess.Popen({[*WATCH, str(tmp_path)]!r})
_, status = os.waitpid(child.pid, os.WUNTRACED)
print("stopped", os.WIFSTOPPED(status), termios.tcgetattr(0) == sane, flush=True)
os.kill(child.pid, signal.SIGCONT)
print("code", child.wait(), flush=True)
"""
    terminal = Terminal(80, 24)
    with live_run(tmp_path, "a"):
        steps = [("q leaves", b"\x1a"), ("stopped", b""), ("q leaves", b"q")]
        assert (
            terminal.run(
                [sys.executable, "-c", f"import signal; signal.signal(signal.SIGTSTP, signal.SIG_IGN)\n{program}"],
                steps=steps,
            )
            == 0
        )
    assert "stopped True True" in terminal.shown
    assert terminal.shown.count(ALT_ON) == terminal.shown.count(ALT_OFF) == 2
    assert "code 0" in terminal.shown


def test_a_pipe_gets_a_line_for_each_change_and_the_table_at_the_end(tmp_path: Path) -> None:
    class Piped(Screen):
        def isatty(self) -> bool:
            return False

    stream = Piped()
    with ThreadPoolExecutor(1) as pool:
        with live_run(tmp_path, "a", "b") as folder:
            ended_well = pool.submit(watch, folder, stream)
            stream.until("[a] running: $0.0100 spent, 1 call\n")
            stream.until("[b] pending: $0.0100 spent, 1 call\n")
            finish(folder, "b", {"status": "done"})
            stream.until("[b] done: $0.0100 spent, 1 call\n")
        assert ended_well.result() is True
    assert len(stream.getvalue().splitlines()) == 3
    assert "\x1b" not in stream.getvalue()
