"""A run on a terminal, drawn again and again from its folder: while `run` runs, and in `status --watch`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleRenderable
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment, SegmentLines
from rich.text import Text

from agent_preflight.base.console import write_line
from agent_preflight.base.tables import duration
from agent_preflight.figures.run_figures import TableFigures
from agent_preflight.runs.record import RecordReader
from agent_preflight.views.run_table import figures_now, live_frame, notice_line, state_line, state_of
from preflight_proxy.core.terminal import plain

READ_EVERY_S = 0.5
ECHO = "^C"
"""A terminal writes it behind the last line when Ctrl-C is pressed; with room for it no further line is begun."""
KEYS_BYTES_MAX = 64
LEAVE = b"q"


def can_renew(stream: TextIO) -> bool:
    """Return whether a table can be drawn again and again on a stream: on a terminal that is not dumb (`TERM=dumb`)."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


class LiveView:
    """The table of a run, from `begin` or the first `draw` until it is closed.

    Args:
        stream: A terminal.
        screen: Use the terminal's second screen; what stood on the first is there again afterwards.
    """

    def __init__(self, stream: TextIO, *, screen: bool = False) -> None:
        self._console = _Console(file=stream)
        self._live = _Frames(console=self._console, screen=screen, auto_refresh=False, transient=not screen)
        self._console.turn = self._live._lock
        self._drawn: object = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, run_dir: Path, title: str) -> None:
        """Draw the run in this folder from now on, twice a second, in a thread: the run does not wait for it."""
        self._thread = threading.Thread(target=self._follow, args=(run_dir, title), name="live view", daemon=True)
        self._thread.start()

    def _follow(self, run_dir: Path, title: str) -> None:
        reader = RecordReader(run_dir)
        while not self._closed.is_set():
            self.draw(figures_now(reader.read()), title)
            self._closed.wait(READ_EVERY_S)

    def draw(self, run: TableFigures, title: str) -> None:
        """Show the figures, in a frame that fits the terminal. If it is the same as before, nothing is written."""
        size = self._console.size
        width = size.width - len(ECHO)
        height = size.height - 1  # the last line stays free for what is typed
        frame = live_frame(run, title, width, height)
        lines = self._console.render_lines(frame, self._console.options.update(width=width), pad=False)[:height]
        if (size, lines) != self._drawn:
            self._drawn = size, lines
            self._live.show(lines)

    def alert(self, text: str) -> None:
        """Print a line above the table, where it stays."""
        with self._console:  # print looks for a live table before it waits for its turn
            self._console.print(Text(plain(text)))

    def close(self) -> None:
        """Remove the table from the terminal."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._live.stop()


class _Frames(Live):
    """Rich's live display for frames that are laid out already.

    If the terminal was made narrower, it has wrapped the lines of the last frame; those rows are erased too.
    """

    _chars: Sequence[int] = ()
    _chars_shown: Sequence[int] = ()

    def show(self, lines: list[list[Segment]]) -> None:
        """Draw a frame in the place of the one before."""
        with self._lock:
            self._chars = list(map(Segment.get_line_length, lines))
            self.update(SegmentLines(lines, new_lines=True))
            self.start()
            self.refresh()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is printed, after it the frame, and before both what removes the last one."""
        width = self.console.width
        rows = 0 if self._screen else sum(max(chars - 1, 0) // width for chars in self._chars_shown)
        self._chars_shown = [min(chars, width) for chars in self._chars]
        wrapped = Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * rows)
        return [wrapped, *super().process_renderables(renderables)]


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


def watch(run_dir: Path, stream: TextIO | None = None) -> bool:
    """Show a run until it ends, and return True; False if a person leaves before, with `q` or Ctrl-C. The run is not touched.

    A terminal gets a table that renews itself; anything else gets a line at each change.

    Args:
        run_dir: The run's folder.
        stream: Standard output by default.
    """
    stream = stream or sys.stdout
    runs = _followed(RecordReader(run_dir))
    try:
        return _watch_screen(runs, stream) if can_renew(stream) else _watch_lines(runs, stream)
    except KeyboardInterrupt:
        return False


def _followed(reader: RecordReader) -> Iterator[TableFigures]:
    """Yield the figures of a run, again whenever they are asked for, until it has ended."""
    while (run := figures_now(reader.read())).live:
        yield run


def _watch_screen(runs: Iterator[TableFigures], stream: TextIO) -> bool:
    """Draw a run on the second screen. Ctrl-Z gives the terminal back for as long as the process is stopped."""
    suspended = threading.Event()
    handlers = {signal.SIGTSTP: lambda *_: suspended.set(), signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}  # SIGINT may be ignored
    try:
        while True:
            with _keys() as pressed, contextlib.closing(LiveView(stream, screen=True)) as view:
                for run in runs:
                    view.draw(run, f"{run.run_id}, running for {duration(run.age_s)}. q leaves; the run goes on.")
                    if LEAVE in pressed(READ_EVERY_S):
                        return False
                    if suspended.is_set():
                        break
                else:
                    return True
            suspended.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bytes]]:
    """Yield a function that returns the keys pressed within some seconds. Afterwards the terminal is as before."""
    fds = [fd for fd in [sys.stdin.fileno()] if os.isatty(fd)]

    def pressed(within_s: float) -> bytes:
        ready = select.select(fds, [], [], within_s)[0]
        return (os.read(ready[0], KEYS_BYTES_MAX) or LEAVE) if ready else b""

    before = [termios.tcgetattr(fd) for fd in fds]
    try:
        for fd in fds:
            tty.setcbreak(fd)
        yield pressed
    finally:
        for fd, settings in zip(fds, before, strict=True):
            termios.tcsetattr(fd, termios.TCSADRAIN, settings)


def _watch_lines(runs: Iterator[TableFigures], stream: TextIO) -> bool:
    """Print how each trial stands, each change of that, and warnings."""
    known: set[object] = set()
    for run in runs:
        news: list[tuple[object, str]] = [
            ((each.alias, state_of(each)), state_line(each.alias, state_of(each), each.posted_pusd, each.calls))
            for each in run.trials
        ]
        news += [((notice.at_s, notice.text), notice_line(notice)) for notice in run.warnings]
        for what, line in news:
            if what not in known:
                write_line(stream, line)
        known |= {what for what, _ in news}
        time.sleep(READ_EVERY_S)
    return True
