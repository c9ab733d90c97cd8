"""What came out of a run, in sentences that its figures carry. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from agent_preflight.base.tables import counted, money
from agent_preflight.base.usd import dollars
from agent_preflight.figures.model_figures import ModelFigures, Totals
from agent_preflight.runs.reconciliation import TOLERANCE_PUSD, Reconciliation

Sentence: TypeAlias = "tuple[tuple[str, bool], ...]"
"""Pieces of text, each with whether it is strong (a name)."""
FRACTIONS = {
    1 / 2: "half",
    1 / 3: "a third",
    1 / 4: "a quarter",
    1 / 5: "a fifth",
    1 / 10: "a tenth",
    2 / 3: "two thirds",
}
FRACTION_PRECISION = 0.05
"""A ratio that is this near to one of these, relatively, is called by its name."""


def text_of(sentences: Sequence[Sentence]) -> str:
    """Return sentences as plain text."""
    return " ".join("".join(text for text, _ in sentence) for sentence in sentences)


def answer_of(models: Sequence[ModelFigures], totals: Totals, *, live: bool, has_scores: bool) -> tuple[Sentence, ...]:
    """Return who did best for the dollar and who scores highest; without scores, who spent what and how the trials ended."""
    if not models:
        return (_said("No trial has started."),)
    sentences = [*(_of_scores(models) if has_scores else _of_costs(models))]
    if live:
        sentences[0] = ((f"So far, with {totals.ended} of {totals.trials} trials ended: ", False), *sentences[0])
    return tuple(sentences)


def spent_of(totals: Totals, reconciliation: Reconciliation | None) -> tuple[Sentence, ...]:
    """Return what was spent in all, and whether the ledger agrees with OpenRouter's keys."""
    spent = f"{money(totals.posted_pusd)} spent in all"
    if totals.trials and totals.unknown_costs == totals.trials:
        spent = "What was spent in all is not known"
    elif totals.unknown_costs:
        spent += f", without {counted(totals.unknown_costs, 'trial')} whose cost is not known"
    if totals.pending_pusd:
        spent += f"; {money(totals.pending_pusd)} more is reserved"
    return _said(f"{spent}."), _said(_agreement(reconciliation, "" if totals.ended == totals.trials else " yet"))


def _said(text: str) -> Sentence:
    return ((text, False),)


def _named(models: Sequence[ModelFigures], rest: str) -> Sentence:
    """Return a sentence that begins with the names of models."""
    pieces: list[tuple[str, bool]] = []
    for place, model in enumerate(models):
        if place:
            pieces.append((" and " if place == len(models) - 1 else ", ", False))
        pieces.append((model.base, True))
    return (*pieces, (rest, False))


def _of_scores(models: Sequence[ModelFigures]) -> Iterator[Sentence]:
    scored = [model for model in models if model.scored]
    best = [model for model in models if model.is_best]
    if best:
        each = money(best[0].cost_per_success_pusd or 0)
        if len(models) == 1:
            yield _named(
                best,
                f" succeeded in {best[0].successes} of {counted(best[0].scored, 'trial')}: {each} for each success.",
            )
        else:
            yield _named(
                best, f" {'is' if len(best) == 1 else 'are'} the best for the dollar: {each} for each success."
            )
    elif any(model.successes for model in models):
        yield _said("What a success cost is not known.")
    elif scored:
        yield _said("No trial succeeded.")
    if unknown := [model for model in models if model.successes and model.posted_pusd is None]:
        yield _named(unknown, " succeeded too, at a cost that is not known." if best else " succeeded.")
    if len(scored) > 1:
        yield from _highest(scored, best)
    failed = sum(len([t for t in m.trials if t.score is not None and t.score.value is None]) for m in models)
    if failed:
        yield _said(f"{counted(failed, 'trial')} {'has' if failed == 1 else 'have'} no score.")


def _highest(scored: Sequence[ModelFigures], best: Sequence[ModelFigures]) -> Iterator[Sentence]:
    """Yield who scores highest, and who cannot be told apart from that model, because their intervals overlap."""
    ranked = sorted(scored, key=lambda model: (-(model.score or 0), model.cost_per_trial_pusd or 0))
    top = ranked[0]
    leaders = [model for model in ranked if model is top or _cannot_be_told_apart(top, model)]
    if len(leaders) == len(ranked) and top.interval is not None:
        yield _said(f"The scores cannot be told apart{_cheapest(leaders)}.")
    elif len(leaders) > 1:
        yield _named(leaders, f" score highest and cannot be told apart{_cheapest(leaders)}.")
    elif list(best) == [top]:
        yield _said(f"It scores highest too, {top.score:.2f}.")
    else:
        yield _named([top], f" scores highest, {top.score:.2f}.")
    single = [model for model in scored if model.scored == 1]
    if len(single) == len(scored):
        yield _said("One trial each tells little: more repeats tell more.")
    elif single:
        yield _named(single, f" {'has' if len(single) == 1 else 'have'} one score only, which tells little.")


def _cannot_be_told_apart(one: ModelFigures, other: ModelFigures) -> bool:
    if one.interval is None or other.interval is None:
        return one.score == other.score
    return one.interval.overlaps(other.interval)


def _cheapest(leaders: Sequence[ModelFigures]) -> str:
    """Return how much less the cheapest of some models costs than the first; nothing if that is the cheapest, or not known."""
    costs = [(model.cost_per_trial_pusd, model.base) for model in leaders if model.cost_per_trial_pusd is not None]
    top_pusd = leaders[0].cost_per_trial_pusd
    if not top_pusd or len(costs) < len(leaders):
        return ""
    least_pusd, base = min(costs)
    ratio = least_pusd / top_pusd
    if ratio >= 0.995:
        return ""
    percent = f"{100 * ratio:.0f} %" if ratio >= 0.01 else "less than 1 %"
    words = (word for part, word in FRACTIONS.items() if abs(ratio / part - 1) <= FRACTION_PRECISION)
    return f"; {base} costs {next(words, percent)} of {leaders[0].base}"


def _of_costs(models: Sequence[ModelFigures]) -> Iterator[Sentence]:
    """Yield who spent most and least, and how the trials ended."""
    known = sorted((model for model in models if model.posted_pusd is not None), key=lambda m: -(m.posted_pusd or 0))
    if not known:
        yield _said("What the trials cost is not known.")
    elif len(known) == 1:
        yield _named(known, f" spent {money(known[0].posted_pusd or 0)}.")
    else:
        most, least = known[0], known[-1]
        yield (
            *((most.base, True), (f" spent the most, {money(most.posted_pusd or 0)}, and ", False)),
            *((least.base, True), (f" the least, {money(least.posted_pusd or 0)}.", False)),
        )
    statuses = Counter(trial.status for model in models for trial in model.trials)
    yield _said(
        f"Of {counted(statuses.total(), 'trial')}: {', '.join(f'{n} {word}' for word, n in statuses.most_common())}."
    )


def _agreement(reconciliation: Reconciliation | None, yet: str) -> str:
    """Return whether the ledger and OpenRouter's figures for the keys agree. They are read at each trial's end."""
    if reconciliation is None:
        return "There is no ledger to compare with OpenRouter's keys."
    rows = reconciliation.rows
    if wrong := [row.account for row in rows if not row.balances]:
        off_pusd = sum(row.unexplained_pusd for row in rows)
        return f"Our ledger and OpenRouter's keys differ by {dollars(off_pusd)} ({', '.join(wrong)})."
    drifts = [row.drift_pusd for row in rows if row.drift_pusd is not None]
    if not drifts:
        return f"OpenRouter's figures for the keys are not known{yet}."
    how = "" if max(map(abs, drifts)) <= TOLERANCE_PUSD else ", but for calls that are pending, assumed or very recent"
    how = " to the last digit" if not any(drifts) else how or " up to rounding"
    unknown = len(rows) - len(drifts)
    but = f" The key's figure is not known{yet} for {counted(unknown, 'trial')}." if unknown else ""
    return f"Our ledger and OpenRouter's keys agree{how}.{but}"
