"""How a run stands, trial by trial, for whoever shows it: written by the loop, read from any thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from preflight_proxy.base.control_messages import Balance

KEPT = "kept"
"""The state of a trial that ended before the run went on."""


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """One trial at one moment.

    Attributes:
        state: Its state's text, or what ended it.
        started_s: Monotonic time of the agent's start, None before it.
        ended_s: Monotonic time of its end, None before it.
        note: Why it ended, or its last remark.
        ok: None while it goes on; then whether it ended without an error.
    """

    alias: str
    model_id: str
    limit_pusd: int
    state: str = "planned"
    balance: Balance = field(default_factory=Balance)
    tool_calls: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    note: str = ""
    ok: bool | None = None

    def seconds(self, now_s: float) -> float:
        """Return how long the agent has run."""
        if self.started_s is None:
            return 0.0
        return (self.ended_s if self.ended_s is not None else now_s) - self.started_s


class RunProgress:
    """The rows of a run, in the order of its trials.

    Args:
        on_change: Called on each change with the row before, if any, and the row after it; must not block.
        on_alert: Called with what a person must read at once, where a view hides what the run says; must not block.
        on_begin: Called when the checks are over and trials begin; must not block.

    Attributes:
        title: Which run it is and how to stop it, once trials begin.
    """

    def __init__(
        self,
        on_change: Callable[[TrialProgress | None, TrialProgress], None] | None = None,
        on_alert: Callable[[str], None] | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        self._rows: dict[str, TrialProgress] = {}
        self._on_change = on_change
        self._on_alert = on_alert
        self._on_begin = on_begin
        self.title = ""

    def begin(self, title: str) -> None:
        """Set the title: the checks are over, and trials begin."""
        self.title = title
        if self._on_begin is not None:
            self._on_begin()

    def put(self, row: TrialProgress) -> None:
        """Set a trial's row."""
        before = self._rows.get(row.alias)
        self._rows[row.alias] = row
        if self._on_change is not None:
            self._on_change(before, row)

    def update(self, alias: str, **changes: object) -> None:
        """Change some fields of a trial's row."""
        self.put(replace(self._rows[alias], **changes))  # type: ignore[arg-type]  # names are Row's

    def alert(self, text: str) -> None:
        """Show what a person must read at once."""
        if self._on_alert is not None:
            self._on_alert(text)

    def rows(self) -> list[TrialProgress]:
        """Return all rows as they stand."""
        return list(self._rows.values())


def now_s() -> float:
    """Return the monotonic time that rows are stamped with."""
    return time.monotonic()
