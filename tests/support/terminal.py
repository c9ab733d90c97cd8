"""A terminal with a screen and a history."""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from typing import TypeAlias

import pyte

HISTORY_LINES = 5000
WRITE_S = 0.0005
LIMIT_S = 60.0
CTRL_C = b"\x03"
Step: TypeAlias = tuple[str, bytes | tuple[int, int] | signal.Signals]


class Terminal:
    """A terminal of a size.

    Attributes:
        shown: What was written to it, escapes and all.
        is_sane: Whether the command that ran left its settings as they were.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=HISTORY_LINES)
        self._stream = pyte.Stream(self._screen)
        self.shown = ""
        self.is_sane = True

    def write(self, text: str) -> None:
        """Show what a program writes."""
        self.shown += text
        self._stream.feed(text)

    def lines(self) -> list[str]:
        """Return the history and the screen, without the empty lines at the end."""
        gone = ["".join(row[n].data for n in range(self._screen.columns)) for row in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*gone, *self._screen.display]).rstrip("\n").split("\n")

    def run(
        self, command: Sequence[str], interrupt_at: str | None = None, *, steps: Sequence[Step] = (), **env: str
    ) -> int:
        """Run a command in this terminal and return its exit code.

        Args:
            command: The program and its arguments.
            interrupt_at: Ctrl-C is pressed when this text was shown.
            steps: What is done in turn, each when its text was shown since the step before: keys that are pressed, a new size
                of the terminal in columns and rows, or a signal to the command.
            env: More variables.
        """
        due = [*steps, *([(interrupt_at, CTRL_C)] if interrupt_at is not None else [])]
        if due:
            command = ["setsid", "--ctty", "--wait", *command]  # the terminal sends the signal to who it belongs to
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (self._screen.lines, self._screen.columns))
        before = termios.tcgetattr(theirs)
        usual = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**usual, "TERM": "xterm-256color", **env}
        ) as ran:
            try:
                self._follow(ran, ours, due)
            except BaseException:  # else a program that does not end would be waited for
                os.kill(os.tcgetpgrp(ours), signal.SIGKILL)
                ran.kill()
                raise
        self.is_sane = termios.tcgetattr(theirs) == before
        os.close(theirs)
        os.close(ours)
        return ran.returncode

    def _follow(self, ran: subprocess.Popen[bytes], ours: int, due: list[Step]) -> None:
        seen, decoder = 0, codecs.getincrementaldecoder("utf-8")("replace")
        while ran.poll() is None or select.select([ours], [], [], 0)[0]:
            if not select.select([ours], [], [], 0.05)[0]:
                continue
            self.write(decoder.decode(os.read(ours, 65536)))
            if due and due[0][0] in self.shown[seen:]:
                seen, (_, action) = len(self.shown), due.pop(0)
                self._do(ours, action)

    def _do(self, fd: int, action: bytes | tuple[int, int] | signal.Signals) -> None:
        if isinstance(action, bytes):
            os.write(fd, action)
            return
        if isinstance(action, signal.Signals):
            os.kill(os.tcgetpgrp(fd), action)
            return
        columns, rows = action
        self._screen.resize(rows, columns)
        termios.tcsetwinsize(fd, (rows, columns))


class Screen(io.StringIO):
    """A stream that says it is a terminal, and keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def isatty(self) -> bool:
        """Say that it is one."""
        return True

    def write(self, text: str) -> int:
        """Keep a text. Other threads go on meanwhile, as with a real terminal."""
        time.sleep(WRITE_S)
        with self._written:
            count = super().write(text)
            self._written.notify_all()
        return count

    def until(self, text: str) -> None:
        """Wait until a text was written."""
        with self._written:
            assert self._written.wait_for(lambda: text in self.getvalue(), LIMIT_S), self.getvalue()
