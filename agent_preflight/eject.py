"""Policies that end a trial early: what has been spent, how long nothing happened, whether there was progress.

A policy is asked on every event, every settlement and every second. It only judges; whoever asks ends the trial. A
policy may keep state, so each trial has a copy of its own. The hard budget does not depend on any of them.
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
"""How the reason begins for which a trial is ejected whose budget is used up."""

Events = list[dict[str, Any]]
Context = dict[str, Any]


def _stay() -> EjectDecision:
    return EjectDecision(should_eject=False)


def _eject(reason: str) -> EjectDecision:
    return EjectDecision(should_eject=True, reason=reason)


class EjectPolicy:
    """Base of all policies; it never ejects. Subclasses override `check` with exactly its four keyword arguments."""

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: Context
    ) -> EjectDecision:
        """Judge the trial as it stands.

        Args:
            elapsed_s: seconds since the trial's start.
            budget_status: what is posted of the trial's budget, in USD.
            events: every event that the agent printed so far, with its own fields.
            context: ``tool_calls``, ``calls``, ``calls_in_flight``, ``repeats`` (how many times in a row the same
                request was sent), and the account in USD: ``spent_usd``, ``reserved_usd`` (held for calls whose cost is not
                known yet), ``available_usd``, ``limit_usd``; a policy may keep notes in it.
        """
        return _stay()


class BudgetExceededEject(EjectPolicy):
    """Eject once the budget is used up; where only so nearly that no call fits, let the agent end by itself first.

    The clients measured end within 5 s of such a refusal; the slowest asks once more after 4 s. Those seconds cost nothing.

    Args:
        grace_s: seconds from the first check that finds nothing fits.
    """

    def __init__(self, *, grace_s: float = 10.0) -> None:
        self.grace_s = grace_s
        self._spent_at_s: float | None = None

    def check(self, *, budget_status: BudgetStatus, elapsed_s: float = 0.0, **_: Any) -> EjectDecision:  # noqa: ANN401 - what others judge by
        """Eject if the budget is used up, or has been spent for the grace."""
        used, limit = f"${budget_status.used:.3f}", dollars(pusd(budget_status.limit))
        if budget_status.used >= budget_status.limit:
            return _eject(f"{EXHAUSTED} ({used} >= {limit})")
        if not budget_status.spent:
            self._spent_at_s = None
            return _stay()
        self._spent_at_s = elapsed_s if self._spent_at_s is None else self._spent_at_s
        if elapsed_s - self._spent_at_s < self.grace_s:
            return _stay()
        return _eject(f"{EXHAUSTED} ({used} of {limit}, nothing more fits)")


class IdleTimeoutEject(EjectPolicy):
    """Eject after a time without activity: no new event, no call begun or ended, none in flight.

    The clock starts at the first check, so that neither preflight nor a container's start counts as idleness.

    Args:
        timeout_s: seconds without activity.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, timeout_s: float = 300.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._seen: tuple[object, ...] | None = None
        self._active_at = 0.0

    def check(self, *, events: Events, context: Context | None = None, **_: Any) -> EjectDecision:  # noqa: ANN401 - as above
        """Eject if nothing has changed for ``timeout_s`` seconds; with 0 of them, at once."""
        now, known = self._clock(), context or {}
        seen = (len(events), known.get("calls"), known.get("calls_in_flight"))
        if seen != self._seen or known.get("calls_in_flight"):
            self._seen, self._active_at = seen, now
        idle = now - self._active_at
        if idle < self.timeout_s:
            return _stay()
        return _eject(f"no events for {idle:.0f}s (timeout={self.timeout_s:.0f}s)")


class BudgetFractionEject(EjectPolicy):
    """Eject a trial that shows no progress at the first check past a share of its budget; judge it once only.

    Args:
        check_after_pct: the share, as a fraction of the limit.
        progress_fn: called with the context; a false answer ejects. Without one nothing is ejected. If it raises,
            nothing is judged yet and it is asked again.
    """

    def __init__(self, check_after_pct: float = 0.20, progress_fn: Callable[[Context], object] | None = None) -> None:
        self.check_after_pct = check_after_pct
        self.progress_fn = progress_fn
        self._judged = False

    def check(self, *, budget_status: BudgetStatus, context: Context, **_: Any) -> EjectDecision:  # noqa: ANN401 - as above
        """Eject if this is the judgement and it finds no progress."""
        if self._judged or self.progress_fn is None or budget_status.pct_spent < self.check_after_pct:
            return _stay()
        progress = self.progress_fn(context)
        self._judged = True
        if progress:
            return _stay()
        spent = f"${budget_status.used:.3f} / {dollars(pusd(budget_status.limit))}"
        return _eject(f"no progress at {budget_status.pct_spent * 100:.0f}% budget spent ({spent})")


class ProgressEject(EjectPolicy):
    """Eject a trial that has spent a given amount since it last made progress.

    Args:
        window_usd: dollars it may spend from one sign of progress to the next, such as ``0.05`` or ``"$2"``.
        progress_fn: called with the context, returns a mark of how far the trial is (a score, the number of tests
            passed, a digest of the answer file). Any change of the mark is progress.

    Raises:
        ValueError: the window is no amount above zero.
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
        """Eject if the spend since the last change of the mark fills the window."""
        mark, used_pusd = self.progress_fn(context), pusd(budget_status.used)
        if self._last is None or mark != self._last[0]:
            self._last = mark, used_pusd
        since_pusd = used_pusd - self._last[1]
        if since_pusd < self._window_pusd:
            return _stay()
        return _eject(f"no progress for ${usd(since_pusd):.3f} spent (window={dollars(self._window_pusd)})")


class StallEject(EjectPolicy):
    """Eject an agent that sends the same request again and again.

    Args:
        threshold: how many equal requests in a row, at least 2.

    Raises:
        ValueError: the threshold is below 2.
    """

    def __init__(self, threshold: int = 5) -> None:
        if threshold < 2:
            raise ValueError(f"threshold must be at least 2, not {threshold}")
        self.threshold = threshold

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: Context
    ) -> EjectDecision:
        """Eject if the last ``threshold`` requests were equal."""
        repeats = context.get("repeats", 0)
        if repeats < self.threshold:
            return _stay()
        return _eject(f"same request {repeats} times in a row (threshold={self.threshold})")


class CompositeEject(EjectPolicy):
    """Eject as soon as one of several policies does; those after it in the list are not asked.

    Args:
        policies: in the order in which they are asked.
    """

    def __init__(self, policies: Sequence[EjectPolicy]) -> None:
        self.policies = policies

    def check(self, **given: Any) -> EjectDecision:  # noqa: ANN401 - each policy says what it judges by
        """Return the first decision that ejects; each policy is given all that this one was."""
        for policy in self.policies:
            decision = policy.check(**given)
            if decision.should_eject:
                return decision
        return _stay()


def default_eject_policies(idle_timeout_s: float = 300.0) -> CompositeEject:
    """Return the policies of a trial that names none: the budget, then idleness."""
    return CompositeEject([BudgetExceededEject(), IdleTimeoutEject(timeout_s=idle_timeout_s)])
