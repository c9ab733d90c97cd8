"""Policies that end a trial early: by its spend, by idleness, by a lack of progress.

A policy only judges. The runner asks it on every event, after every settled call and once a second, and ends the trial if
the decision says so. Each trial has a policy of its own, so a policy may keep state. The hard budget depends on none.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from agent_preflight.base.usd import Dollars, dollars, pusd, read_usd, usd
from agent_preflight.models import BudgetStatus, EjectDecision

__all__ = [
    "BudgetExceededEject",
    "BudgetFractionEject",
    "CompositeEject",
    "EjectDecision",
    "EjectPolicy",
    "IdleTimeoutEject",
    "ProgressEject",
    "StallEject",
    "default_eject_policies",
]

EXHAUSTED = "budget exhausted"
"""The first words of the reason when a trial is ejected because its budget is used up."""

Events = list[dict[str, Any]]
Context = dict[str, Any]


def _stay() -> EjectDecision:
    return EjectDecision(should_eject=False)


def _eject(reason: str) -> EjectDecision:
    return EjectDecision(should_eject=True, reason=reason)


class EjectPolicy:
    """The base of all policies. It never ejects.

    Write a policy as a subclass that overrides `check` with exactly these four keyword arguments.
    """

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: Context
    ) -> EjectDecision:
        """Judge the trial.

        What it raises ejects nothing; it is logged and counted in the summary.

        Args:
            elapsed_s: Seconds since the agent's start.
            budget_status: Dollars posted and granted.
            events: The agent's events so far, oldest first, with the fields that the agent gave them. Of a very long trial the
                oldest are dropped.
            context: Figures of the trial, in which a policy may also keep notes. `events`: events so far. `tool_calls`: tool
                calls that they reported. `calls`: calls with a cost. `calls_in_flight`: calls under way. `repeats`: how many
                times in a row the newest request repeated the one before it. In dollars: `spent_usd` is posted,
                `reserved_usd` is reserved for calls whose cost is not known yet, `limit_usd` is the budget with top-ups, and
                `available_usd` is what is left for a new call.

        Returns:
            The decision. `EjectDecision(False)` lets the trial go on.
        """
        return _stay()


class BudgetExceededEject(EjectPolicy):
    """Ejects when the budget is used up.

    If a little is left but no call fits, the agent gets `grace_s` seconds to end by itself. They cost nothing: its calls are
    refused. The tested clients end within 5 s of such a refusal.

    Args:
        grace_s: Seconds from the first check that finds that nothing fits.
    """

    def __init__(self, *, grace_s: float = 10.0) -> None:
        self.grace_s = grace_s
        self._spent_at_s: float | None = None

    def check(self, *, budget_status: BudgetStatus, elapsed_s: float = 0.0, **_: Any) -> EjectDecision:  # noqa: ANN401 - what others judge by
        """Eject if `used` has reached `limit`, or if nothing has fitted for `grace_s` seconds."""
        if budget_status.used >= budget_status.limit:
            return _eject(f"{EXHAUSTED} (${budget_status.used:.3f} >= {dollars(pusd(budget_status.limit))})")
        if not budget_status.spent:
            self._spent_at_s = None
            return _stay()
        self._spent_at_s = elapsed_s if self._spent_at_s is None else self._spent_at_s
        if elapsed_s - self._spent_at_s < self.grace_s:
            return _stay()
        limit = dollars(pusd(budget_status.limit))
        return _eject(f"{EXHAUSTED} (${budget_status.used:.3f} of {limit}, nothing more fits)")


class IdleTimeoutEject(EjectPolicy):
    """Ejects after a time without activity: no new event, no call begun or ended, no call under way.

    The time starts at the first check, so preflight and the container's start do not count.

    Args:
        timeout_s: Seconds without activity. 0 ejects at the first check.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, timeout_s: float = 300.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._seen: tuple[object, ...] | None = None
        self._active_at = 0.0

    def check(self, *, events: Events, context: Context | None = None, **_: Any) -> EjectDecision:  # noqa: ANN401 - as above
        """Eject if nothing has changed for `timeout_s` seconds."""
        now, known = self._clock(), context or {}
        seen = (known.get("events", len(events)), known.get("calls"), known.get("calls_in_flight"))
        if seen != self._seen or known.get("calls_in_flight"):
            self._seen, self._active_at = seen, now
        idle = now - self._active_at
        if idle < self.timeout_s:
            return _stay()
        return _eject(f"no events for {idle:.0f}s (timeout={self.timeout_s:.0f}s)")


class BudgetFractionEject(EjectPolicy):
    """Judges a trial once, at the first check after a share of its budget is spent, and ejects it if it shows no progress.

    Args:
        check_after_pct: The share, as a fraction of the limit.
        progress_fn: Called with the context of `EjectPolicy.check`. A false result ejects. If it raises, the trial is judged
            at the next check. None ejects nothing.
    """

    def __init__(self, check_after_pct: float = 0.20, progress_fn: Callable[[Context], object] | None = None) -> None:
        self.check_after_pct = check_after_pct
        self.progress_fn = progress_fn
        self._judged = False

    def check(self, *, budget_status: BudgetStatus, context: Context, **_: Any) -> EjectDecision:  # noqa: ANN401 - as above
        """Eject if the share is spent, the trial was not judged before, and `progress_fn` returns a false value."""
        if self._judged or self.progress_fn is None or budget_status.pct_spent < self.check_after_pct:
            return _stay()
        progress = self.progress_fn(context)
        self._judged = True
        if progress:
            return _stay()
        spent = f"${budget_status.used:.3f} / {dollars(pusd(budget_status.limit))}"
        return _eject(f"no progress at {budget_status.pct_spent * 100:.0f}% budget spent ({spent})")


class ProgressEject(EjectPolicy):
    """Ejects a trial that has spent a given amount since it last made progress.

    Args:
        window_usd: Dollars that it may spend without progress, such as `0.05` or `"$2"`.
        progress_fn: Called with the context of `EjectPolicy.check`. Returns how far the trial is, such as a score, the number
            of tests passed or a digest of the answer file. Any change of that value is progress.

    Raises:
        ValueError: `window_usd` is no amount above zero.
    """

    def __init__(self, window_usd: Dollars, progress_fn: Callable[[Context], object]) -> None:
        try:
            window = read_usd(window_usd)
        except ValueError as exc:
            raise ValueError(f"window_usd is {exc}, not {window_usd!r}") from None
        self.window_usd = float(window)
        self.progress_fn = progress_fn
        self._window_pusd = pusd(window)
        self._last: tuple[object, int] | None = None

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: Context
    ) -> EjectDecision:
        """Eject if the spend since the value of `progress_fn` last changed has reached `window_usd`."""
        mark, used_pusd = self.progress_fn(context), pusd(budget_status.used)
        if self._last is None or mark != self._last[0]:
            self._last = mark, used_pusd
        since_pusd = used_pusd - self._last[1]
        if since_pusd < self._window_pusd:
            return _stay()
        return _eject(f"no progress for ${usd(since_pusd):.3f} spent (window={dollars(self._window_pusd)})")


class StallEject(EjectPolicy):
    """Ejects an agent that sends the same request again and again.

    Args:
        threshold: Repetitions in a row, at least 2. The first request is not one: 5 repetitions are 6 equal requests.

    Raises:
        ValueError: `threshold` is below 2.
    """

    def __init__(self, threshold: int = 5) -> None:
        if threshold < 2:
            raise ValueError(f"threshold must be at least 2, not {threshold}")
        self.threshold = threshold

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: Context
    ) -> EjectDecision:
        """Eject if the newest request repeated the one before it `threshold` times in a row."""
        repeats = context.get("repeats", 0)
        if repeats < self.threshold:
            return _stay()
        return _eject(f"same request repeated {repeats} times in a row (threshold={self.threshold})")


class CompositeEject(EjectPolicy):
    """Ejects as soon as one of several policies does. Policies after that one are not asked.

    Args:
        policies: Asked in this order.
    """

    def __init__(self, policies: Sequence[EjectPolicy]) -> None:
        self.policies = policies

    def check(self, **figures: Any) -> EjectDecision:  # noqa: ANN401 - each policy says what it judges by
        """Return the first decision that ejects. Each policy gets the same keyword arguments."""
        for policy in self.policies:
            decision = policy.check(**figures)
            if decision.should_eject:
                return decision
        return _stay()


def default_eject_policies(idle_timeout_s: float = 300.0) -> CompositeEject:
    """Return the policies of a trial that names none: `BudgetExceededEject`, then `IdleTimeoutEject`.

    Args:
        idle_timeout_s: Seconds without activity after which a trial is ejected.
    """
    return CompositeEject([BudgetExceededEject(), IdleTimeoutEject(timeout_s=idle_timeout_s)])


LOOK_AT_NO_EVENT = (BudgetExceededEject, IdleTimeoutEject, BudgetFractionEject, ProgressEject, StallEject)


def reads_events(policy: object) -> bool:
    """Return whether a policy may look at `events`. Those above do not; a class of the user's own may."""
    if type(policy) is CompositeEject:
        return any(reads_events(each) for each in policy.policies)
    return type(policy) not in LOOK_AT_NO_EVENT
