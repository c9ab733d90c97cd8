"""A terminal with a screen and a history."""

from __future__ import annotations

import contextlib
import os
import subprocess
import termios
from collections.abc import Sequence

import pyte

HISTORY_LINES = 5000


class Terminal:
    """A terminal of a size.

    Attributes:
        shown: What was written to it, escapes and all.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=HISTORY_LINES)
        self._stream = pyte.Stream(self._screen)
        self.shown = ""

    def write(self, text: str) -> None:
        """Show what a program writes."""
        self.shown += text
        self._stream.feed(text)

    def lines(self) -> list[str]:
        """Return the history and the screen, without the empty lines at the end."""
        gone = ["".join(row[n].data for n in range(self._screen.columns)) for row in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*gone, *self._screen.display]).rstrip("\n").split("\n")

    def run(self, command: Sequence[str], interrupt_at: str | None = None) -> int:
        """Run a command in this terminal and return its exit code. Ctrl-C is pressed when a text was shown."""
        if interrupt_at is not None:
            command = ["setsid", "--ctty", "--wait", *command]  # the terminal sends the signal to who it belongs to
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (self._screen.lines, self._screen.columns))
        usual = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**usual, "TERM": "xterm-256color"}
        ) as ran:
            os.close(theirs)
            with contextlib.suppress(OSError):  # the end of a terminal on Linux
                while part := os.read(ours, 65536):
                    self.write(part.decode("utf-8", "replace"))
                    if interrupt_at is not None and interrupt_at in self.shown:
                        os.write(ours, b"\x03")
                        interrupt_at = None
        os.close(ours)
        return ran.returncode
