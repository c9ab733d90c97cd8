"""The figures of one trial. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from agent_preflight.artifacts import number
from agent_preflight.runs.call import Call
from agent_preflight.runs.costs import TOKENS
from agent_preflight.runs.record import Score, TrialRecord

RATE_S = 300.0
"""The rate of spending is that of a trial's last five minutes."""
OF_STATUS = ("alias", "status", "ended", "limit_pusd", "calls", "refused", "note")
"""Figures that are as in `TrialStatus`."""
RATE_S_MIN = 10.0
"""A younger trial's rate is computed as if it had run this long."""


class TokenSums(msgspec.Struct, frozen=True):
    """Sums of tokens. Cached and written ones are part of the prompt, reasoning is part of the completion."""

    prompt: int = 0
    cached: int = 0
    cache_write: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def cache_share(self) -> float | None:
        """Cached tokens as a fraction of the prompts'; None without prompts."""
        return self.cached / self.prompt if self.prompt else None


class Spending(msgspec.Struct, frozen=True):
    """What one trial, or all trials of a model, spent and did. Unknown values are None.

    Attributes:
        base: Alias of the model, which all its repeats share.
        posted_pusd: What its calls have cost.
        pending_pusd: What is reserved for calls whose cost is not known yet.
        calls: Calls that have a cost.
        duration_s: From its start to its end, or to now; the mean over the trials of a model.
    """

    base: str
    model_id: str
    limit_pusd: int | None
    posted_pusd: int | None
    pending_pusd: int
    calls: int | None
    refused: int | None
    tokens: TokenSums
    duration_s: float | None


class TrialFigures(Spending, frozen=True):
    """One trial.

    Attributes:
        status: As in `TrialStatus`.
        state: What the runner does with it, while it has not ended; else empty.
        rate_pusd_per_min: What it spent a minute over its last `RATE_S`; None once it has ended, and before its start.
        empty_in_s: When its budget is used up at that rate; None without a rate.
        idle_s: Seconds since its last event or call, while it runs.
        score: None if none is asked for, or not yet known.
        note: Why it ended, or what a person should know.
        ended_by: Who ended it, as in summary.json; empty before its end, and in older runs.
    """

    alias: str
    status: str
    state: str
    ended: bool
    rate_pusd_per_min: int | None
    empty_in_s: float | None
    last_tool: str | None
    idle_s: float | None
    score: Score | None
    note: str
    ended_by: str
    tool_calls: int = 0


def trial_figures(trial: TrialRecord, calls: Sequence[Call], at_s: float) -> TrialFigures:
    """Return the figures of a trial at a moment.

    Args:
        trial: The trial.
        calls: Its entries, oldest first.
        at_s: The moment.
    """
    status = trial.status
    runs = status.status == "running"
    posted_pusd = 0 if status.posted_pusd is None and status.status == "pending" else status.posted_pusd
    pending_pusd = status.pending_pusd or 0
    rate = _rate_pusd_per_min(trial.began_at_s, calls, at_s) if runs else None
    latest_s = max(filter(None, (trial.last_event_at_s, calls[-1].at_s if calls else None)), default=None)
    left_pusd = None if status.limit_pusd is None else status.limit_pusd - (posted_pusd or 0) - pending_pusd
    return TrialFigures(
        **{name: getattr(status, name) for name in OF_STATUS},
        base=trial.base,
        model_id=status.model_id or "",
        state="" if status.ended else trial.state,
        posted_pusd=posted_pusd,
        pending_pusd=pending_pusd,
        tokens=_tokens(trial, calls),
        rate_pusd_per_min=rate,
        empty_in_s=max(left_pusd, 0) * 60 / rate if rate and left_pusd is not None else None,
        last_tool=trial.tools[-1][1] if trial.tools else None,
        idle_s=max(at_s - latest_s, 0.0) if runs and latest_s is not None else None,
        duration_s=max(at_s - trial.began_at_s, 0.0) if runs and trial.began_at_s else status.duration_s,
        score=trial.score,
        ended_by=str(trial.block.get("ended_by") or ""),
        tool_calls=status.tool_calls,
    )


def _rate_pusd_per_min(began_at_s: float | None, calls: Sequence[Call], at_s: float) -> int | None:
    if began_at_s is None:
        return None
    window_s = min(max(at_s - began_at_s, RATE_S_MIN), RATE_S)
    return round(sum(call.cost_pusd for call in calls if call.at_s > at_s - window_s) * 60 / window_s)


def _tokens(trial: TrialRecord, calls: Sequence[Call]) -> TokenSums:
    """Return the sums of a trial's calls; of a run without a ledger those in the summary."""
    if trial.account is not None or calls:
        return TokenSums(*(sum(getattr(call, name) for call in calls) for name in TOKENS))
    cache = trial.summary.get("cache")
    figures = {**trial.block, **(cache if isinstance(cache, dict) else {})}
    names = ("total_prompt_tokens", "cached_tokens", "cache_creation_tokens", "completion_tokens")
    return TokenSums(*(max(int(number(figures.get(name))), 0) for name in names))


def token_sums(sums: Iterable[TokenSums]) -> TokenSums:
    """Return the sums of sums; zeros for none."""
    return TokenSums(*map(sum, zip(*(msgspec.structs.astuple(each) for each in sums), strict=True)))
