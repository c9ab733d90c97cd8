"""The figures of a model over its repeats: score, costs, which one is the best, and the Pareto front. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from agent_preflight.figures.intervals import Interval, mean_interval, share_interval
from agent_preflight.figures.trial_figures import Spending, TokenSums, TrialFigures, token_sums


class ModelFigures(Spending, frozen=True):
    """One model: all its repeats. Sums are None if one of the values is unknown.

    Attributes:
        number: Its place in the plan, from 0; its colour on a page.
        score: The mean over scored trials.
        interval: Of that mean, at 95 %; None if they are too few.
        scored: Trials that have a score.
        successes: Trials that succeeded; None if no trial is scored.
        unscored_reasons: Why scoring failed, each reason once.
        cost_per_trial_pusd: The mean over its trials that have begun.
        cost_interval_pusd: Of that mean, at 95 %; None if they are too few.
        cost_per_success_pusd: What all its trials cost, divided by the successes; None without successes.
        is_best: It has the lowest cost for each success of all models.
        on_front: No other model is better and cheaper (each trial), or one of both with the other equal.
        ended: How its trials ended, in a few words.
    """

    number: int
    trials: tuple[TrialFigures, ...]
    score: float | None
    interval: Interval | None
    scored: int
    successes: int | None
    unscored_reasons: tuple[str, ...]
    cost_per_trial_pusd: int | None
    cost_interval_pusd: tuple[int, int] | None
    cost_per_success_pusd: int | None
    is_best: bool
    on_front: bool
    ended: str


class Totals(msgspec.Struct, frozen=True):
    """Sums over a run's trials, of what is known.

    Attributes:
        unknown_costs: Trials whose cost is not known; the sum lacks them.
    """

    trials: int
    ended: int
    calls: int
    refused: int
    tokens: TokenSums
    posted_pusd: int
    pending_pusd: int
    limit_pusd: int
    rate_pusd_per_min: int | None
    unknown_costs: int = 0


def model_figures(trials: Sequence[TrialFigures]) -> tuple[ModelFigures, ...]:
    """Return the figures of each model, in the order of its first trial."""
    groups: dict[str, list[TrialFigures]] = {}
    for trial in trials:
        groups.setdefault(trial.base, []).append(trial)
    models = [_model(number, base, tuple(group)) for number, (base, group) in enumerate(groups.items())]
    best_pusd = min((m.cost_per_success_pusd for m in models if m.cost_per_success_pusd is not None), default=None)
    return tuple(
        msgspec.structs.replace(
            model,
            is_best=best_pusd is not None and model.cost_per_success_pusd == best_pusd,
            on_front=_on_front(model, models),
        )
        for model in models
    )


def _sum(values: Iterable[int | None]) -> int | None:
    """Return a sum; None if one of the values is unknown."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _model(number: int, base: str, trials: tuple[TrialFigures, ...]) -> ModelFigures:
    scores = [trial.score for trial in trials if trial.score is not None]
    values = [score.value for score in scores if score.value is not None]
    kinds = {score.kind for score in scores if score.value is not None}
    successes = sum(score.success is True for score in scores)
    posted_pusd = _sum(trial.posted_pusd for trial in trials)
    begun = [trial for trial in trials if trial.status != "pending" or trial.posted_pusd]
    costs = mean_interval([trial.posted_pusd for trial in begun if trial.posted_pusd is not None])
    known = posted_pusd is not None
    times = [trial.duration_s for trial in trials if trial.duration_s is not None]
    return ModelFigures(
        base=base,
        model_id=trials[0].model_id,
        number=number,
        trials=trials,
        score=math.fsum(values) / len(values) if values else None,
        interval=share_interval(round(sum(values)), len(values)) if kinds == {"bool"} else mean_interval(values),
        scored=len(values),
        successes=successes if values else None,
        unscored_reasons=tuple(dict.fromkeys(score.reason or "" for score in scores if score.value is None)),
        posted_pusd=posted_pusd,
        pending_pusd=sum(trial.pending_pusd for trial in trials),
        cost_per_trial_pusd=None if posted_pusd is None else _divided(posted_pusd, max(len(begun), 1)),
        cost_interval_pusd=(max(round(costs.low), 0), round(costs.high)) if costs and known else None,
        cost_per_success_pusd=None if posted_pusd is None or not successes else _divided(posted_pusd, successes),
        is_best=False,
        on_front=False,
        **{name: _sum(getattr(trial, name) for trial in trials) for name in ("limit_pusd", "calls", "refused")},
        tokens=token_sums(trial.tokens for trial in trials),
        duration_s=math.fsum(times) / len(times) if times else None,
        ended=_ended(trials),
    )


def _divided(amount_pusd: int, count: int) -> int:
    """Return an amount divided, rounded to whole pico-USD without a float."""
    return (2 * amount_pusd + count) // (2 * count)


def _ended(trials: Sequence[TrialFigures]) -> str:
    """Return how trials ended in a few words: `done`, or `2 done, 1 ejected`."""
    words = Counter(trial.status for trial in trials)
    return next(iter(words)) if len(words) == 1 else ", ".join(f"{count} {word}" for word, count in words.most_common())


def _on_front(model: ModelFigures, models: Sequence[ModelFigures]) -> bool:
    cost, score = model.cost_per_trial_pusd, model.score
    if cost is None or score is None:
        return False
    return not any(
        other.cost_per_trial_pusd <= cost
        and other.score >= score
        and (other.cost_per_trial_pusd, other.score) != (cost, score)
        for other in models
        if other.cost_per_trial_pusd is not None and other.score is not None
    )


def totals_of(trials: Sequence[TrialFigures]) -> Totals:
    """Return the sums over trials."""
    names = ("calls", "refused", "posted_pusd", "pending_pusd", "limit_pusd")
    rates = [trial.rate_pusd_per_min for trial in trials if trial.rate_pusd_per_min is not None]
    return Totals(
        trials=len(trials),
        ended=sum(trial.ended for trial in trials),
        tokens=token_sums(trial.tokens for trial in trials),
        rate_pusd_per_min=sum(rates) if rates else None,
        unknown_costs=sum(trial.posted_pusd is None for trial in trials),
        **{name: sum(getattr(trial, name) or 0 for trial in trials) for name in names},
    )
