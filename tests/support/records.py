"""Makes the record of a run from a few keywords, without files, for tests of what is computed and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.runs.call import Call
from agent_preflight.runs.record import Notice, RunRecord, Score, TrialRecord
from agent_preflight.runs.status import RunStatus, TrialStatus
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.refusals.outcomes import Cause, Outcomes

CENT = 10**10
BEGUN_S = 1_800_000_000.0
"""When every run of these begins: in January 2027."""
PRICES = {"prompt": "0.000001", "completion": "0.000004", "cache_read": "0.0000001", "cache_write": "0.00000125"}


def a_call(trial: str, cost_pusd: int, at_s: float = BEGUN_S + 10, **more: Any) -> Call:
    """Return a posted call, its prices as `PRICES` unless others are given."""
    defaults: dict[str, Any] = {
        "entry_id": 0,
        "outcome": "posted",
        "model": "m/x",
        "provider": "Acme",
        "endpoint": "acme",
        "prompt_tokens": 1000,
        "cached_tokens": 400,
        "completion_tokens": 100,
        "conversation": "c",
        "duration_ms": 1000,
        "status": 200,
        "prices": {name: Decimal(text) for name, text in PRICES.items()},
    }
    return Call(trial=trial, cost_pusd=cost_pusd, at_s=at_s, **{**defaults, **more})


def a_score(value: float | bool | None, *, success: bool | None = None, reason: str | None = None) -> Score:
    """Return a score: of kind `bool` for a bool, failed for None; a success from 1.0 on unless it is said."""
    if value is None:
        return Score(None, None, None, reason or "the command failed")
    kind = "bool" if isinstance(value, bool) else "number"
    return Score(float(value), float(value) >= 1.0 if success is None else success, kind)


def a_trial(
    alias: str,
    calls: Sequence[Call] = (),
    *,
    base: str | None = None,
    repeat: int = 0,
    model_id: str = "m/x",
    status: str = "done",
    limit_pusd: int | None = 25 * CENT,
    pending_pusd: int = 0,
    score: Score | None = None,
    causes: Iterable[Cause] = (),
    has_ledger: bool = True,
    key_usage_usd: str | None = None,
    duration_s: float = 60.0,
    **more: Any,
) -> TrialRecord:
    """Return a trial whose account has these calls; without a ledger, its costs are not known."""
    mine = [call for call in calls if call.trial == alias]
    posted_pusd = sum(call.cost_pusd for call in mine)
    outcomes = Outcomes(len(mine), tuple(causes))
    ended = status not in ("pending", "running")
    account = Account(
        id=alias,
        run="run",
        limit_pusd=limit_pusd or 0,
        posted_pusd=posted_pusd,
        pending_pusd=pending_pusd,
        key_is_own=True,
        calls=sum(call.is_call for call in mine),
        refused=sum(cause.count for cause in outcomes.causes),
        outcomes=outcomes,
        prompt_tokens=sum(call.prompt_tokens for call in mine),
        cached_tokens=sum(call.cached_tokens for call in mine),
        completion_tokens=sum(call.completion_tokens for call in mine),
    )
    figures = {name: getattr(account, name) for name in ("posted_pusd", "pending_pusd", "calls", "refused")}
    fields = {name: more.pop(name) for name in ("error", "notes") if name in more}
    trial_status = TrialStatus(
        alias,
        model_id,
        status=status,
        limit_pusd=limit_pusd,
        duration_s=duration_s,
        **fields,
        **figures if has_ledger else {},
    )
    began = status != "pending"
    times = {
        "began_at_s": BEGUN_S if began else None,
        "last_event_at_s": BEGUN_S + duration_s if began else None,
        "ended_at_s": BEGUN_S + duration_s if ended else None,
    }
    summary: Mapping[str, Any] = {}
    if key_usage_usd is not None:
        summary = {"finished_at": "2027-02-01T00:00:00+00:00", "preflight": {"key_usage_usd": key_usage_usd}}
    return TrialRecord(
        trial_status,
        base=base or alias,
        repeat=repeat,
        account=account if has_ledger else None,
        score=score,
        **{"state": "summarised" if ended else "running", "summary": summary, **times, **more},
    )


def a_run(
    *trials: TrialRecord, calls: Sequence[Call] = (), live: bool = False, notices: Sequence[Notice] = (), **more: Any
) -> RunRecord:
    """Return a run of these trials. Entries without a number are numbered in their order."""
    from msgspec.structs import replace

    statuses = tuple(trial.status for trial in trials)
    numbered = tuple(replace(call, entry_id=call.entry_id or n) for n, call in enumerate(calls, 1))
    run_dir = Path("runs/run-20270115-080000")
    defaults = {
        "run_dir": run_dir,
        "run_id": run_dir.name,
        "plan": {},
        "status": RunStatus(run_dir, live, statuses).status,
        "begun_at_s": BEGUN_S,
    }
    return RunRecord(**{**defaults, **more}, live=live, trials=trials, calls=numbered, notices=notices)


def a_field(
    costs: Mapping[str, Sequence[int]], scores: Mapping[str, Sequence[float | bool | None]] | None = None
) -> RunRecord:
    """Return a run with a trial for each cost in pico-USD of each model, posted in one call, and its score if there are any."""
    calls = [a_call(_alias(base, n, each), cost) for base, each in costs.items() for n, cost in enumerate(each, 1)]
    trials = [
        a_trial(
            _alias(base, n, each),
            calls,
            base=base,
            repeat=n if len(each) > 1 else 0,
            score=None if scores is None else a_score(scores[base][n - 1]),
        )
        for base, each in costs.items()
        for n in range(1, len(each) + 1)
    ]
    return a_run(*trials, calls=calls)


def _alias(base: str, number: int, repeats: Sequence[object]) -> str:
    return f"{base}-{number}" if len(repeats) > 1 else base
