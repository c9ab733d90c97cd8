"""The figures of a run, of its models and of its trials: what every table, page and export shows. Pure.

Money is whole pico-USD. None is an unknown value, never 0. A moment is in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent_preflight.figures.answer import Sentence, answer_of, spent_of
from agent_preflight.figures.cache_figures import CacheView, cache_view
from agent_preflight.figures.fairness import FairnessRow, fairness_of
from agent_preflight.figures.model_figures import ModelFigures, Totals, model_figures, totals_of
from agent_preflight.figures.refusals import Refusal, refusals_of
from agent_preflight.figures.rerun import Rerun, rerun_of
from agent_preflight.figures.spending import CostBreakdown, Curve, Timeline, costs_of, curves_of, timeline_of
from agent_preflight.figures.trial_figures import TrialFigures, trial_figures
from agent_preflight.runs.reconciliation import Reconciliation, reconcile_account, summary_figure
from agent_preflight.runs.record import Notice, RunRecord

WARNINGS_MAX = 5


class TableFigures(msgspec.Struct, frozen=True):
    """What a table of a run shows.

    Attributes:
        title: The tag `task`, else the run's id.
        age_s: Seconds since it began; of a run that is over, until its last trial ended or printed its last event.
        begun_at_s: When it began.
        repeats: The most trials that a model has.
        answer: What came out, the best first.
        spent: What was spent in all, and whether OpenRouter's figures agree.
        reconciliation: What the ledger has against OpenRouter's figures; None without a ledger.
        warnings: The latest ones.
        trouble: What could not be read.
    """

    run_id: str
    title: str
    live: bool
    status: str
    tags: Mapping[str, str]
    age_s: float
    begun_at_s: float
    trials: tuple[TrialFigures, ...]
    models: tuple[ModelFigures, ...]
    totals: Totals
    has_scores: bool
    repeats: int
    answer: tuple[Sentence, ...]
    spent: tuple[Sentence, ...]
    reconciliation: Reconciliation | None
    warnings: tuple[Notice, ...]
    trouble: str | None


class PageFigures(msgspec.Struct, frozen=True):
    """What a page of a run shows."""

    table: TableFigures
    curves: tuple[Curve, ...]
    costs: CostBreakdown
    caching: CacheView | None
    timeline: Timeline
    refusals: tuple[Refusal, ...]
    fairness: tuple[FairnessRow, ...]
    rerun: Rerun


def table_figures(record: RunRecord, at_s: float) -> TableFigures:
    """Return what a table shows of a run, at a moment."""
    calls, reconciliation = record.calls_by_trial, reconciliation_of(record)
    trials = tuple(trial_figures(trial, calls.get(trial.status.alias, ()), at_s) for trial in record.trials)
    models = model_figures(trials)
    totals = totals_of(trials)
    seen_at_s = (at_s for trial in record.trials for at_s in (trial.ended_at_s, trial.last_event_at_s))
    ended_at_s = max((at_s for at_s in seen_at_s if at_s is not None), default=record.begun_at_s)
    has_scores = any(trial.score is not None for trial in trials)
    return TableFigures(
        run_id=record.run_id,
        title=record.tags.get("task") or record.run_id,
        live=record.live,
        status=record.status,
        tags=record.tags,
        age_s=max((at_s if record.live else ended_at_s) - record.begun_at_s, 0.0),
        begun_at_s=record.begun_at_s,
        trials=trials,
        models=models,
        totals=totals,
        has_scores=has_scores,
        repeats=max((len(model.trials) for model in models), default=0),
        answer=answer_of(models, totals, live=record.live, has_scores=has_scores),
        spent=spent_of(totals, reconciliation),
        reconciliation=reconciliation,
        warnings=tuple(notice for notice in record.notices if notice.kind != "run_done")[-WARNINGS_MAX:],
        trouble=record.trouble,
    )


def page_figures(record: RunRecord, at_s: float) -> PageFigures:
    """Return everything that a page shows of a run, at a moment."""
    table = table_figures(record, at_s)
    return PageFigures(
        table=table,
        curves=curves_of(record, at_s),
        costs=costs_of(record),
        caching=cache_view(record.calls),
        timeline=timeline_of(record, at_s),
        refusals=refusals_of(record),
        fairness=fairness_of(record),
        rerun=rerun_of(record.plan),
    )


def reconciliation_of(record: RunRecord) -> Reconciliation | None:
    """Compare each account with the figure that its trial's summary has of its key; None without a ledger."""
    calls = record.calls_by_trial
    rows = tuple(
        reconcile_account(
            trial.account,
            ((call.at_s, call.cost_pusd) for call in calls.get(trial.account.id, ())),
            summary_figure(trial.summary),
        )
        for trial in record.trials
        if trial.account is not None
    )
    return Reconciliation(rows, record.quarantined) if rows else None
