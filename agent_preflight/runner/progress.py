"""The figures of a run's trials, for views, policies and results. The loop writes them; any thread may read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import structs
from msgspec.structs import replace

from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import Outcomes

now_s = time.monotonic
"""The clock of `started_s` and `ended_s`."""
KEPT = "kept"
"""The state of a trial that ended before the run was resumed."""


class TrialProgress(msgspec.Struct, frozen=True):
    """One trial at one moment.

    Attributes:
        state: Its state's text, or its status once it has ended.
        balance: The newest known balance of its account.
        repeats: How often in a row the agent has sent the same request again.
        started_s: Monotonic time of the agent's start, None before it.
        ended_s: Monotonic time of its end, None before it.
        note: Why it ended.
        ok: None until its end; then whether it ended without an error.
    """

    alias: str
    model_id: str
    limit_pusd: int
    state: str = "planned"
    balance: Balance = msgspec.field(default_factory=Balance)
    tool_calls: int = 0
    repeats: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    note: str = ""
    ok: bool | None = None

    def seconds(self, now_s: float) -> float:
        """Return how long the agent has run."""
        if self.started_s is None:
            return 0.0
        return (self.ended_s if self.ended_s is not None else now_s) - self.started_s

    def with_balance(self, balance: Balance) -> TrialProgress:
        """Return it with a balance, unless a newer one is known.

        The known outcomes of calls stay if there are more of them: a proxy that was killed has lost the latest.
        """
        if balance.as_of < self.balance.as_of:
            return self
        if _count(balance.outcomes) < _count(self.balance.outcomes):
            balance = structs.replace(balance, outcomes=self.balance.outcomes)
        return replace(self, balance=balance)


def _count(outcomes: Outcomes) -> int:
    return outcomes.served + outcomes.unserved


class RunProgress:
    """The trials of a run, in their order.

    Args:
        on_change: Called on each change with the trial before it, if any, and after it; must not block.
        on_alert: Called with messages that a person must read at once, even if the view hides others; must not block.
        on_begin: Called with the run's folder and the title when the checks are over and trials begin; must not block.

    Attributes:
        alert: Shows a message that a person must read at once.
    """

    def __init__(
        self,
        on_change: Callable[[TrialProgress | None, TrialProgress], object] = lambda before, after: None,
        on_alert: Callable[[str], object] = lambda text: None,
        on_begin: Callable[[Path, str], object] = lambda run_dir, title: None,
    ) -> None:
        self._rows: dict[str, TrialProgress] = {}
        self._on_change = on_change
        self.alert = on_alert
        self._on_begin = on_begin

    def begin(self, run_dir: Path, title: str) -> None:
        """Say that trials begin in the run's folder. The title is the run's, and how to stop it."""
        self._on_begin(run_dir, title)

    def put(self, row: TrialProgress) -> None:
        """Set a trial's progress."""
        previous = self._rows.get(row.alias)
        self._rows[row.alias] = row
        self._on_change(previous, row)

    def update(self, alias: str, **changes: object) -> None:
        """Change some fields of a trial's progress."""
        self.put(replace(self._rows[alias], **changes))

    def row(self, alias: str) -> TrialProgress:
        """Return the progress of one trial."""
        return self._rows[alias]

    def rows(self) -> list[TrialProgress]:
        """Return the progress of all trials."""
        return list(self._rows.values())
