"""What `agent-preflight estimate` shows: a table of what each budget affords, and what to do if that is little. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent_preflight.base.tables import TableColumn, TextTable
from agent_preflight.base.usd import dollars
from agent_preflight.estimates.calls_that_fit import BYTES_PER_TOKEN, Estimate, advice, calls_text, rounded_up

COLUMNS = (
    TableColumn("model", fold=20),
    TableColumn("budget", right=True),
    TableColumn("one call up to", right=True),
    TableColumn("affords", right=True),
    TableColumn("first answer", right=True),
)
"""`first answer` is the output bound that the first call is sent with."""


def report(estimates: Sequence[Estimate], expect_tokens: int) -> Iterator[TextTable | str]:
    """Yield the table, and below it what its figures mean."""
    yield TextTable(COLUMNS, [_row(each) for each in estimates], notes=[_note(each) for each in estimates])
    yield ""
    yield f"Calls of {expect_tokens:,} prompt tokens, reserved as {BYTES_PER_TOKEN * expect_tokens:,} bytes of text."
    yield "Each is taken at its worst case. Real calls cost less, so a run gets more."
    yield "Nothing was spent."


def _row(estimate: Estimate) -> tuple[str, ...]:
    budget = dollars(estimate.budget_pusd)
    if estimate.why_unknown:
        return estimate.model, budget, "-", "no call" if estimate.why_none else "-", "-"
    first = "refused" if estimate.first_bound is None else f"{estimate.first_bound:,} tokens" if estimate.bound else "-"
    return estimate.model, budget, rounded_up(estimate.worst_pusd), calls_text(estimate), first


def _note(estimate: Estimate) -> str:
    least = "" if estimate.calls else f"one call takes at least {rounded_up(estimate.least_pusd)}: "
    return estimate.why_unknown or f"{least}{advice(estimate)}"
