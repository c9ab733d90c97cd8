"""What came out of a run, in sentences that its figures carry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from agent_preflight.base.tables import money
from agent_preflight.figures.model_figures import ModelFigures, Totals
from agent_preflight.runs.reconciliation import Reconciliation

Sentence: TypeAlias = "tuple[tuple[str, bool], ...]"
"""Pieces of text, each with whether it is strong (a name)."""


def text_of(sentences: Sequence[Sentence]) -> str:
    """Return sentences as plain text."""
    return " ".join("".join(text for text, _ in sentence) for sentence in sentences)


def answer_of(models: Sequence[ModelFigures], totals: Totals, *, live: bool, has_scores: bool) -> tuple[Sentence, ...]:
    """Return who did best for the dollar and who scores highest; without scores, who spent what and how the trials ended."""
    if not models:
        return (_said("No trial has started."),)
    return tuple(_spenders(models))


def spent_of(totals: Totals, reconciliation: Reconciliation | None) -> tuple[Sentence, ...]:
    """Return what was spent in all, and whether the ledger agrees with OpenRouter's keys."""
    return (_said(f"{money(totals.posted_pusd)} spent in all."),)


def _said(text: str) -> Sentence:
    return ((text, False),)


def _spenders(models: Sequence[ModelFigures]) -> Iterator[Sentence]:
    known = sorted((m for m in models if m.posted_pusd is not None), key=lambda m: -(m.posted_pusd or 0))
    if known:
        yield (known[0].base, True), (f" spent the most, {money(known[0].posted_pusd or 0)}.", False)
