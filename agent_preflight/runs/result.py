"""Makes a trial's verdict, result and summary.json and a run's exit code from the facts. Pure.

An agent's exit code does not show whether its calls were served: many clients exit with 0 after an error, and with 1 after the
budget was spent as intended. So an agent that ended by itself is judged by its calls. One that was ejected or stopped has that
status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from agent_preflight.base.tables import counted
from agent_preflight.base.usd import cents_up, dollars, exact, pusd, usd
from agent_preflight.models import CacheStats, RunResult
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.trial_state import EXIT_CODE, Ender, EndReason, error_of
from agent_preflight.sandboxes.interface import Exit, Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from preflight_proxy.base.control_messages import Balance, LedgerEvent
from preflight_proxy.core.refusals.outcomes import Cause, Outcomes, code_of
from preflight_proxy.core.refusals.refusals import Code, Source

SCHEMA = 1
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
NOTICES_MAX = 50
"""Lines for one trial: an agent can make any number of different wrong requests."""


class TrialFacts(msgspec.Struct, frozen=True):
    """The facts of a trial at its end.

    Attributes:
        balance: Its account; None if that was never opened.
        key_usage_usd: The sub-key's usage at OpenRouter; None if it could not be read.
        cleanup: The result of each step of the clean-up.
        output: What was copied of the agent's output.
        last_words: The last line of the agent's stderr.
        tags: The run's.
    """

    ending: EndReason
    exit: Exit | None
    started_at: datetime
    finished_at: datetime
    duration_s: float
    balance: Balance | None
    key_usage_usd: Decimal | None = None
    tool_calls: int = 0
    events_count: int = 0
    claims: CacheStats = msgspec.field(default_factory=CacheStats)
    policy_errors: int = 0
    caps_hit: Mapping[str, int] = {}
    warnings: tuple[str, ...] = ()
    cleanup: Mapping[str, Step] = {}
    output: KeptOutput = msgspec.field(default_factory=KeptOutput)
    last_words: str = ""
    tags: Mapping[str, str] = {}


def result_of(plan: TrialPlan, network: str, facts: TrialFacts) -> RunResult:
    """Return a trial's result. Costs and cache figures are the ledger's; `claims` has the agent's own."""
    balance = facts.balance
    outcomes = None if balance is None else balance.outcomes
    verdict = judge(facts.ending, facts.exit, outcomes, _limit_pusd(plan, facts), facts.last_words)
    return RunResult(
        alias=plan.alias,
        model_id=plan.model_id,
        budget_usd=float(usd(_limit_pusd(plan, facts))),
        started_at=facts.started_at.isoformat(),
        finished_at=facts.finished_at.isoformat(),
        duration_s=round(facts.duration_s, 3),
        cost_usd=None if balance is None else float(usd(balance.posted_pusd)),
        error=verdict.error,
        tool_calls=facts.tool_calls,
        events_count=facts.events_count,
        cache=facts.claims if balance is None or not balance.calls else _cache_of(balance),
        preflight=_extra(plan, network, facts, verdict),
    )


def summary_document(result: RunResult) -> dict[str, Any]:
    """Return summary.json: the keys of the old format first, then ours under `preflight`."""
    return {**result.to_dict(), "preflight": result.preflight}


def _limit_pusd(plan: TrialPlan, facts: TrialFacts) -> int:
    """Return its last limit, which a top-up may have raised."""
    return (facts.balance.limit_pusd if facts.balance is not None else 0) or plan.limit_pusd


def _cache_of(balance: Balance) -> CacheStats:
    return CacheStats(
        total_prompt_tokens=balance.prompt_tokens,
        cached_tokens=balance.cached_tokens,
        cache_creation_tokens=balance.cache_write_tokens,
        request_count=balance.calls,
        cache_hit_requests=balance.cache_hit_requests,
    )


def _extra(plan: TrialPlan, network: str, facts: TrialFacts, verdict: TrialVerdict) -> dict[str, Any]:
    balance, usage_usd = facts.balance or Balance(), facts.key_usage_usd
    return {
        "schema": SCHEMA,
        "status": verdict.status,
        "ended_by": facts.ending.by.value,
        "notes": list(verdict.notes),
        "network": network,
        "tags": dict(facts.tags),
        "limit_usd": exact(_limit_pusd(plan, facts)),
        "posted_usd": exact(balance.posted_pusd),
        "spent_before_usd": exact(plan.spent_before_pusd),
        "pending_usd": exact(balance.pending_pusd),
        "assumed_usd": exact(balance.assumed_pusd),
        "overrun_usd": exact(balance.overrun_pusd),
        "quarantined": list(balance.quarantined),
        "key_room_usd": exact(plan.key_room_pusd),
        "key_usage_usd": None if usage_usd is None else format(usage_usd.normalize(), "f"),
        "drift_usd": None if usage_usd is None else exact(_drift_pusd(plan, balance, usage_usd)),
        "exit_code": None if facts.exit is None else facts.exit.code,
        "calls": balance.calls,
        "refused": balance.refused,
        "served": balance.outcomes.served,
        "not_served": [_cause_document(cause) for cause in balance.outcomes.causes],
        "never_served": verdict.never_served,
        "traffic": {name: dict(figures) for name, figures in balance.traffic.items()},
        "completion_tokens": balance.completion_tokens,
        "policy_errors": facts.policy_errors,
        "output": facts.output.document(),
        "score": None,
        "claims": facts.claims.to_dict(),
        "caps_hit": dict(facts.caps_hit),
        "warnings": [*facts.warnings, *verdict.warnings],
        "cleanup": dict(facts.cleanup),
    }


def _cause_document(cause: Cause) -> dict[str, Any]:
    document = {**structs.asdict(cause), "source": cause.source.value}
    needed_pusd = document.pop("limit_needed_pusd")
    return {**document, "limit_needed_usd": exact(needed_pusd) if needed_pusd else None}


def unexplained_usage_pusd(plan: TrialPlan, balance: Balance, key_usage_usd: Decimal) -> int:
    """Return by how much the usage of a trial's last sub-key is above what the ledger has posted and pending with that key."""
    return _drift_pusd(plan, balance, key_usage_usd) - balance.pending_pusd


def _drift_pusd(plan: TrialPlan, balance: Balance, key_usage_usd: Decimal) -> int:
    """Return OpenRouter's figure minus the posted one, for the last attempt, which has its own key."""
    return pusd(key_usage_usd) + plan.spent_before_pusd - balance.posted_pusd


def exit_code(results: Sequence[RunResult], held_back: Sequence[str] = ()) -> int:
    """Return what a command that ran these trials exits with.

    0: all done (ejected, spent and stopped are outcomes). 1: a trial failed or was cut off, or was held back because the
    account has no credit. 3: drift. 4: overrun. 5: clean-up unverified. The highest that holds of 3-5 wins.
    """
    worst = max((_grave(result.preflight) for result in results), default=0)
    failed = any(result.error is not None and not _is_outcome(result) for result in results)
    return worst or int(failed or bool(held_back))


def _is_outcome(result: RunResult) -> bool:
    """Return whether a policy or a person ended the trial: an outcome, not a failure."""
    return str(result.error).startswith("ejected: ") or result.preflight.get("status") == "stopped"


def _grave(extra: Mapping[str, Any]) -> int:
    if any(step != "ok" for step in extra.get("cleanup", {}).values()):
        return 5
    if extra.get("overrun_usd", "0") != "0":
        return 4
    return 3 if any(str(text).startswith("drift: ") for text in extra.get("warnings", ())) else 0


class TrialVerdict(msgspec.Struct, frozen=True):
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
        f"{counted(cause.count, 'call')} {_were(cause, cause.count)}{_first_model(cause)}: {_text(cause)}"
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
    calls = counted(total, "call") if cause.count == total else f"{cause.count} of {counted(total, 'call')}"
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


def _were(cause: Cause, count: int) -> str:
    was = "was" if count == 1 else "were"
    return f"{was} not served" if cause.source in (Source.UPSTREAM, Source.CLIENT) else f"{was} refused"


def _first_model(cause: Cause) -> str:
    return f", the first to {cause.model}" if cause.model else ""


def _text(cause: Cause) -> str:
    return f"{cause.text}: {cause.detail}" if cause.detail else cause.text


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
