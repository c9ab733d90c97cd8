"""A run as people follow it: a live table on a terminal, a line for each change of state anywhere else."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from agent_preflight.base.console import write_line
from agent_preflight.runner.progress import RunProgress, TrialProgress
from agent_preflight.views.live_view import LiveView, can_renew
from agent_preflight.views.run_table import state_line


class RunView(Protocol):
    """Shows a run until it is closed.

    Attributes:
        progress: What the run writes to.
    """

    progress: RunProgress

    def say(self, line: str) -> None:
        """Take a line that the run prints; may come from any thread."""

    def close(self) -> None:
        """End the view; the final table takes its place."""


def run_view(stream: TextIO | None = None) -> RunView:
    """Return the view that fits a stream (standard output by default): live on a terminal, else line by line."""
    stream = stream or sys.stdout
    return TableView(stream) if can_renew(stream) else LineView(stream)


class TableView:
    """A table that renews itself from when trials begin. What the checks print stands above it."""

    def __init__(self, stream: TextIO) -> None:
        self._live = LiveView(stream)
        self.progress = RunProgress(on_alert=self._live.alert, on_begin=self._live.begin)

    def say(self, line: str) -> None:
        """Nothing: the table shows it, and run.log keeps it."""

    def close(self) -> None:
        """Remove the table from the terminal."""
        self._live.close()


class LineView:
    """What the run says, and a line whenever a trial goes on to another state."""

    def __init__(self, stream: TextIO) -> None:
        self.progress = RunProgress(self._changed)
        self._stream = stream

    def say(self, line: str) -> None:
        """Print the line."""
        write_line(self._stream, line)

    def _changed(self, before: TrialProgress | None, row: TrialProgress) -> None:
        if before is not None and before.state != row.state and row.ok is not None:
            self.say(state_line(row.alias, row.state, row.balance.posted_pusd, row.balance.calls))

    def close(self) -> None:
        """Do nothing: what is printed stays."""
