"""What `agent-preflight estimate` shows: a table of what each budget affords, and what to do if that is little. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent_preflight.base.tables import TableColumn, TextTable
from agent_preflight.base.usd import dollars
from agent_preflight.estimates.calls_that_fit import Estimate, advice, calls_text, rounded_up
from preflight_proxy.base.config import Bound
from preflight_proxy.core.pricing.fits import fits_text
from preflight_proxy.core.pricing.prompt_bound import BYTES_PER_TOKEN

COLUMNS = (
    TableColumn("model", fold=20),
    TableColumn("budget", right=True),
    TableColumn("one call up to", right=True),
    TableColumn("affords", right=True),
    TableColumn("first answer", right=True),
)
"""`first answer` is the output bound that the first call is sent with."""


COUNTED: Mapping[Bound, str] = {
    "measured": "reserved with a margin",
    "proven": f"reserved as {BYTES_PER_TOKEN} bytes of text each",
}
"""What a token is reserved as."""


def report(estimates: Sequence[Estimate], expect_tokens: int, bound: Bound = "measured") -> Iterator[TextTable | str]:
    """Yield the table, and below it what its figures mean."""
    yield TextTable(COLUMNS, [_row(each) for each in estimates], notes=[_note(each) for each in estimates])
    yield ""
    yield f"Calls of {expect_tokens:,} new prompt tokens, {COUNTED[bound]}."
    yield "Each is taken at its worst case. Real calls cost less, so a run gets more."
    yield "Nothing was spent."


def _row(estimate: Estimate) -> tuple[str, ...]:
    budget = dollars(estimate.budget_pusd)
    if estimate.why_unknown:
        return estimate.model, budget, "-", "no call" if estimate.why_none else "-", "-"
    first = "refused" if estimate.first_bound is None else f"{estimate.first_bound:,} tokens" if estimate.bound else "-"
    return estimate.model, budget, rounded_up(estimate.worst_pusd), calls_text(estimate), first


def _note(estimate: Estimate) -> str:
    if estimate.why_unknown or not estimate.is_low:
        return estimate.why_unknown
    least = "" if estimate.calls else f"one call takes at least {rounded_up(estimate.least_pusd)}: "
    return f"{least}{advice(estimate)}. {fits_text(estimate.model, estimate.fits_tokens)}"
