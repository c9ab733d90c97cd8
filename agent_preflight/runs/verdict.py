"""Decides a trial's status, error and warnings from the reason of its end and the outcomes of its calls. Pure.

An agent's exit code does not show whether its calls were served: many clients exit with 0 after an error, and with 1 after the
budget was spent as intended. So an agent that ended by itself is judged by its calls. One that was ejected or stopped has that
status.
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
OWN_ENDS = (Ender.AGENT, Ender.AGENT_END)
"""The agent ended by itself. After all other ends, outcomes of calls add warnings, but do not change the status."""
_EXPECTED = (Source.BUDGET, Source.CLIENT, Source.END)
"""Calls that are not served for these reasons are expected: they are counted, without a warning."""


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """How a trial ended.

    Attributes:
        status: One word: `done`, `failed`, `spent`, `ejected`, `interrupted`, `stopped` or `lost`.
        error: None if it ended well.
        notes: What the table shows beside the error.
        warnings: The notes that are warnings, then why calls were not served.
        never_served: The most frequent cause's code, if calls were made and none was served.
    """

    status: str
    error: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    never_served: str | None = None


def judge(
    ending: EndReason, exit_: Exit | None, outcomes: Outcomes | None, limit_pusd: int, last_words: str = ""
) -> TrialVerdict:
    """Return the verdict on a trial.

    Args:
        ending: Why it ended.
        exit_: The agent's exit, if known.
        outcomes: Those of its calls; None if it never had an account.
        limit_pusd: Its budget.
        last_words: The last line of the agent's stderr: added to an error that no call explains.
    """
    error = error_of(ending, exit_)
    has_last_words = bool(last_words) and ending.by is Ender.AGENT and error is not None and error.startswith(EXIT_CODE)
    if outcomes is None:
        return TrialVerdict(ending.outcome(error), error)
    is_own = ending.by in OWN_ENDS
    refused = tuple(
        f"{_calls(cause.count)} {_were(cause, cause.count)}{_first_model(cause)}: {_text(cause)}"
        for cause in outcomes.causes
        if cause.source not in _EXPECTED
    )
    if is_own and outcomes.served and outcomes.last is not None and outcomes.last.source is Source.BUDGET:
        return TrialVerdict(SPENT, None, (_spent(outcomes.last, limit_pusd, error),), refused)
    cause = None if outcomes.served else _most_frequent(outcomes.causes)
    warnings: list[str] = []
    if cause is not None:
        text = _never_served(cause, outcomes, limit_pusd)
        if is_own:
            error = text if error is None else f"{text.rstrip('.')}; {error}"
        else:
            warnings.append(text)
    elif not outcomes.served and not outcomes.causes and (is_own or ending.by is Ender.EJECTED):
        warnings.append(NO_CALL if has_last_words else NEVER_CALLED)
    elif is_own and outcomes.served and any(each.code == KEY_LIMIT for each in outcomes.causes):
        error = KEY_STOPPED if error is None else f"{KEY_STOPPED}; {error}"
    elif outcomes.served and outcomes.last is not None and outcomes.since_served == outcomes.since_served_upstream:
        warnings.append(_lost_model(outcomes.since_served, outcomes.last))
    if has_last_words and cause is None:
        error = f"{error}: {last_words}"
    return TrialVerdict(
        ending.outcome(error), error, tuple(warnings), (*warnings, *refused), cause.code if cause is not None else None
    )


def _most_frequent(causes: Sequence[Cause]) -> Cause | None:
    """Return the most frequent cause, of equals the first. Calls that a frozen account refused came after the end: not counted."""
    counted = [cause for cause in causes if cause.source is not Source.END]
    return max(counted, key=lambda cause: cause.count, default=None)


def _never_served(cause: Cause, outcomes: Outcomes, limit_pusd: int) -> str:
    total = sum(each.count for each in outcomes.causes if each.source is not Source.END)
    calls = _calls(total) if cause.count == total else f"{cause.count} of {_calls(total)}"
    were = f"{calls} {_were(cause, total)}{_first_model(cause)}"
    if cause.source is not Source.BUDGET:
        return f"no call was served: {were}: {_text(cause)}"
    needed = f"; it needs a budget of ${cents_up(cause.limit_needed_pusd)}" if cause.limit_needed_pusd else ""
    return f"the budget of {dollars(limit_pusd)} covers no call: {were}{needed}"


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


def _first_model(cause: Cause) -> str:
    return f", the first to {cause.model}" if cause.model else ""


def _text(cause: Cause) -> str:
    return f"{cause.text}: {cause.detail}" if cause.detail else cause.text


NOTICES_MAX = 50
"""Lines for one trial: an agent can make any number of different wrong requests."""


class RefusalNotices:
    """Makes one line for each unexpected cause of unserved calls, at its first call."""

    def __init__(self) -> None:
        self._noticed: set[tuple[str, str]] = set()

    def notice(self, event: LedgerEvent) -> str | None:
        """Return the line for a `refused` or `unserved` event, if its cause is new; else None."""
        cause = _cause(event)
        if cause is None or cause.source in _EXPECTED or len(self._noticed) >= NOTICES_MAX:
            return None
        if (cause.code, cause.text) in self._noticed:
            return None
        self._noticed.add((cause.code, cause.text))
        to = f" to {cause.model}" if cause.model else ""
        return f"a call{to} {_were(cause, 1)}: {_text(cause)}"


def _cause(event: LedgerEvent) -> Cause | None:
    try:
        return Cause(
            event.code or "", Source(event.source or ""), event.text or "", event.model or "", event.detail or ""
        )
    except ValueError:
        return None
