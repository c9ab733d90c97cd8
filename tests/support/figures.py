"""Figures of runs, for tests of what shows them."""

from typing import Any

from msgspec.structs import replace

from agent_preflight.figures.model_figures import ModelFigures, Totals
from agent_preflight.figures.run_figures import TableFigures
from agent_preflight.figures.trial_figures import TokenSums, TrialFigures

TRIAL = TrialFigures(
    alias="nano",
    base="nano",
    model_id="openai/gpt-4.1-nano",
    status="running",
    state="running",
    ended=False,
    limit_pusd=250_000_000_000,
    posted_pusd=123_456_789_000,
    pending_pusd=20_000_000_000,
    calls=1234,
    refused=2,
    tokens=TokenSums(prompt=900, cached=450, completion=100),
    rate_pusd_per_min=61_728_394_500,
    empty_in_s=103.2,
    last_tool="bash",
    idle_s=2.5,
    duration_s=120.0,
    score=None,
    note="",
    ended_by="",
)
ENDED: dict[str, Any] = {
    "status": "ejected", "state": "", "ended": True, "pending_pusd": 0, "rate_pusd_per_min": None, "empty_in_s": None,
    "idle_s": None,
}  # fmt: skip
MODEL = ModelFigures(
    base="nano",
    model_id="openai/gpt-4.1-nano",
    number=0,
    trials=(TRIAL, TRIAL, TRIAL),
    score=0.5,
    interval=None,
    scored=1,
    successes=1,
    unscored_reasons=(),
    posted_pusd=6_300_000_000,
    pending_pusd=0,
    limit_pusd=250_000_000_000,
    cost_per_trial_pusd=6_300_000_000,
    cost_interval_pusd=None,
    cost_per_success_pusd=6_300_000_000,
    is_best=False,
    on_front=True,
    calls=41,
    refused=0,
    tokens=TokenSums(prompt=900, cached=450, completion=100),
    duration_s=72.0,
    ended="done",
)


def trial(alias: str = "nano", **changes: Any) -> TrialFigures:
    """Return a trial that runs, with some changes."""
    return replace(TRIAL, **{"alias": alias, "base": alias, **changes})


def ended(alias: str = "nano", **changes: Any) -> TrialFigures:
    """Return a trial that was ejected, with some changes."""
    return trial(alias, **{**ENDED, **changes})


def model(base: str = "nano", **changes: Any) -> ModelFigures:
    """Return a model of one scored trial, with some changes."""
    return replace(MODEL, base=base, **changes)


def run(*trials: TrialFigures, models: tuple[ModelFigures, ...] = (), **changes: Any) -> TableFigures:
    """Return a run of these trials, with sums of what a table shows."""
    totals = Totals(
        trials=len(trials),
        ended=sum(each.ended for each in trials),
        calls=sum(each.calls or 0 for each in trials),
        refused=sum(each.refused or 0 for each in trials),
        tokens=TokenSums(
            sum(each.tokens.prompt for each in trials), completion=sum(each.tokens.completion for each in trials)
        ),
        posted_pusd=sum(each.posted_pusd or 0 for each in trials),
        pending_pusd=sum(each.pending_pusd for each in trials),
        limit_pusd=sum(each.limit_pusd or 0 for each in trials),
        rate_pusd_per_min=None,
    )
    figures = TableFigures(
        run_id="run-1",
        title="run-1",
        live=not all(each.ended for each in trials),
        status="running",
        tags={},
        age_s=125.0,
        begun_at_s=0.0,
        trials=trials,
        models=models,
        totals=totals,
        has_scores=bool(models),
        repeats=1,
        answer=(),
        spent=(),
        reconciliation=None,
        warnings=(),
        trouble=None,
    )
    return replace(figures, **changes)
