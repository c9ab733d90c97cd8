"""From an ending and what became of the calls to a trial's status, its error, and what a person must know. Pure.

An agent's exit code does not tell whether it had a model: many clients end with 0 after an error, and with 1 after a budget that
was spent as it should be. The proxy knows. An agent that ended by itself is judged by its calls; one that was ejected or stopped
is told as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent_preflight.base.usd import cents_up, dollars
from agent_preflight.runs.trial_state import EXIT_CODE, Ender, EndReason, error_of
from agent_preflight.sandboxes.interface import Exit
from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.core.refusals.outcomes import Cause, Outcomes, Source, code_of
from preflight_proxy.core.refusals.refusals import Code

NO_CALL = "the agent made no call"
NEVER_CALLED = (
    f"{NO_CALL}: does it read OPENROUTER_BASE_URL? OpenAI clients read OPENAI_BASE_URL and OPENAI_API_KEY, "
    "Anthropic clients ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN"
)
KEY_STOPPED = (
    "OpenRouter refused: the trial's key has reached its limit before the budget was used, and the account is frozen. "
    "Compare the costs with `agent-preflight costs --reconcile`"
)
KEY_LIMIT = code_of(Code.TRIAL_KEY_LIMIT)
SPENT = "spent"
BY_OTHERS = frozenset(
    {
        Ender.EJECTED,
        Ender.INTERRUPTED,
        Ender.STOPPED,
        Ender.LOST,
        Ender.GATE_LOST,
        Ender.CALLBACK,
        Ender.PROVISIONING,
        Ender.ERROR,
    }
)
"""Endings that are not the agent's own: what became of its calls explains them and changes nothing."""
_EXPECTED = (Source.BUDGET, Source.CLIENT, Source.END)
"""Calls that are not served for these reasons are what budgets, clients and ends are for: counted, and no warning."""


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """How a trial ended.

    Attributes:
        status: One word: `done`, `failed`, `spent`, `ejected`, `interrupted`, `stopped` or `lost`.
        error: None if it ended well.
        notes: What the table shows of it beside the error.
        warnings: Those of the notes that are warnings, then why calls were not served.
        never_served: The code of the most frequent cause, if calls were made and none was served.
    """

    status: str
    error: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    never_served: str | None = None


def judge(
    ending: EndReason, exit_: Exit | None, outcomes: Outcomes | None, limit_pusd: int, last_words: str = ""
) -> TrialVerdict:
    """Return how a trial ended.

    Args:
        ending: What ended it.
        exit_: The agent's exit, if it came to one.
        outcomes: What became of its calls; None if it never had an account.
        limit_pusd: Its budget.
        last_words: The last line of the agent's stderr: the reason, if it ended with an error that no call explains.
    """
    error = error_of(ending, exit_)
    has_said = bool(last_words) and ending.by is Ender.AGENT and error is not None and error.startswith(EXIT_CODE)
    if outcomes is None:
        return TrialVerdict(ending.outcome(error), error)
    is_own = ending.by not in BY_OTHERS
    refused = tuple(sentence(cause) for cause in outcomes.causes if cause.source not in _EXPECTED)
    if is_own and outcomes.served and outcomes.last is not None and outcomes.last.source is Source.BUDGET:
        return TrialVerdict(SPENT, None, (_spent(outcomes.last, limit_pusd, error),), refused)
    cause = None if outcomes.served else _most_frequent(outcomes.causes)
    warnings: list[str] = []
    if cause is not None:
        told = _never_served(cause, outcomes, limit_pusd)
        if is_own:
            error = told if error is None else f"{told.rstrip('.')}; {error}"
        else:
            warnings.append(told)
    elif not outcomes.served and not outcomes.causes and (is_own or ending.by is Ender.EJECTED):
        warnings.append(NO_CALL if has_said else NEVER_CALLED)
    elif is_own and outcomes.served and any(each.code == KEY_LIMIT for each in outcomes.causes):
        error = KEY_STOPPED if error is None else f"{KEY_STOPPED}; {error}"
    elif outcomes.served and outcomes.last is not None and outcomes.since_served == outcomes.since_served_upstream:
        warnings.append(_lost_model(outcomes.since_served, outcomes.last))
    if has_said and cause is None:
        error = f"{error}: {last_words}"
    return TrialVerdict(
        ending.outcome(error), error, tuple(warnings), (*warnings, *refused), cause.code if cause is not None else None
    )


def sentence(cause: Cause) -> str:
    """Return how many calls were not served, and why."""
    return f"{_calls(cause.count)} {_were(cause, cause.count)}{_reason(cause)}"


def first_notice(cause: Cause) -> str | None:
    """Return what a person is told when a cause first comes up; None for what is no surprise."""
    if cause.source in _EXPECTED:
        return None
    to = f" to {cause.model}" if cause.model else ""
    return f"a call{to} {_were(cause, 1)}: {_text(cause)}"


def _most_frequent(causes: Sequence[Cause]) -> Cause | None:
    """The first of the most frequent; calls that a frozen account refused came after the end, and do not count."""
    counted = [cause for cause in causes if cause.source is not Source.END]
    return max(counted, key=lambda cause: cause.count, default=None)


def _never_served(cause: Cause, outcomes: Outcomes, limit_pusd: int) -> str:
    total = sum(each.count for each in outcomes.causes if each.source is not Source.END)
    calls = _calls(total) if cause.count == total else f"{cause.count} of {_calls(total)}"
    were = f"{calls} {_were(cause, total)}"
    if cause.source is not Source.BUDGET:
        return f"no call was served: {were}{_reason(cause)}"
    first = f", the first to {cause.model}" if cause.model else ""
    needed = f"; it needs a budget of ${cents_up(cause.limit_needed_pusd)}" if cause.limit_needed_pusd else ""
    return f"the budget of {dollars(limit_pusd)} covers no call: {were}{first}{needed}"


def _spent(cause: Cause, limit_pusd: int, error: str | None) -> str:
    end = "" if error is None else f" ({error})"
    return f"the budget of {dollars(limit_pusd)} is spent: it did not cover the last call{end}"


def _lost_model(count: int, cause: Cause) -> str:
    calls = "the last call was" if count == 1 else f"the last {count} calls were"
    return f"{calls} not served, so the agent had no model at its end: {_text(cause)}"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _were(cause: Cause, count: int) -> str:
    was = "was" if count == 1 else "were"
    return f"{was} not served" if cause.source in (Source.UPSTREAM, Source.CLIENT) else f"{was} refused"


def _reason(cause: Cause) -> str:
    first = f", the first to {cause.model}" if cause.model else ""
    return f"{first}: {_text(cause)}"


def _text(cause: Cause) -> str:
    return f"{cause.text}: {cause.detail}" if cause.detail else cause.text


TOLD_MAX = 50
"""Reasons that are told for one trial; an agent can word any number of wrong requests."""


class RefusalNotices:
    """Remembers which reasons a person has been told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def hear(self, event: LedgerEvent) -> str | None:
        """Take a `refused` or `unserved` event; returns a sentence the first time that the reason comes up."""
        cause = _cause(event)
        if cause is None or (cause.code, cause.text) in self._told or len(self._told) >= TOLD_MAX:
            return None
        sentence = first_notice(cause)
        if sentence is not None:
            self._told.add((cause.code, cause.text))
        return sentence


def _cause(event: LedgerEvent) -> Cause | None:
    try:
        return Cause(
            event.code or "", Source(event.source or ""), event.text or "", event.model or "", event.detail or ""
        )
    except ValueError:
        return None
