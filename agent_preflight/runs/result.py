"""Makes a trial's result, its summary.json and a run's exit code from the facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.models import CacheStats, RunResult
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.trial_state import EndReason
from agent_preflight.runs.verdict import TrialVerdict, judge
from agent_preflight.sandboxes.interface import Exit, Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import Cause

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """The facts of a trial at its end.

    Attributes:
        balance: Its account; None if that was never opened.
        key_usage_usd: The sub-key's usage at OpenRouter; None if it could not be read.
        cleanup: The result of each step of the clean-up.
        output: What was copied of the agent's output.
        last_words: The last line of the agent's stderr.
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
    claims: CacheStats = field(default_factory=CacheStats)
    policy_errors: int = 0
    caps_hit: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    cleanup: Mapping[str, Step] = field(default_factory=dict)
    output: KeptOutput = field(default_factory=KeptOutput)
    last_words: str = ""


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
        "limit_usd": exact(_limit_pusd(plan, facts)),
        "posted_usd": exact(balance.posted_pusd),
        "spent_before_usd": exact(plan.spent_before_pusd),
        "pending_usd": exact(balance.pending_pusd),
        "assumed_usd": exact(balance.assumed_pusd),
        "overrun_usd": exact(balance.overrun_pusd),
        "quarantined": list(balance.quarantined),
        "key_usage_usd": None if usage_usd is None else format(usage_usd.normalize(), "f"),
        "drift_usd": None if usage_usd is None else exact(_drift_pusd(plan, balance, usage_usd)),
        "exit_code": None if facts.exit is None else facts.exit.code,
        "calls": balance.calls,
        "refused": balance.refused,
        "served": balance.outcomes.served,
        "not_served": [_cause(cause) for cause in balance.outcomes.causes],
        "never_served": verdict.never_served,
        "traffic": {name: dict(figures) for name, figures in balance.traffic.items()},
        "completion_tokens": balance.completion_tokens,
        "policy_errors": facts.policy_errors,
        "output": facts.output.document(),
        "claims": facts.claims.to_dict(),
        "caps_hit": dict(facts.caps_hit),
        "warnings": [*facts.warnings, *verdict.warnings],
        "cleanup": dict(facts.cleanup),
    }


def _cause(cause: Cause) -> dict[str, Any]:
    document = {**asdict(cause), "source": cause.source.value}
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
