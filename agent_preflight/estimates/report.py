"""What `agent-preflight estimate` shows: a table of what each budget affords, and what to do where that is little. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight.base.tables import TableColumn, TextTable
from agent_preflight.base.usd import dollars
from agent_preflight.estimates.calls_that_fit import BYTES_PER_TOKEN, Estimate, advice, calls_text, rounded_up
from preflight_proxy.core.money import usd_text

COLUMNS = (
    TableColumn("model", fold=20),
    TableColumn("budget", right=True),
    TableColumn("one call up to", right=True),
    TableColumn("affords", right=True),
    TableColumn("first answer", right=True),
)
"""`first answer` is the output bound that the first call leaves with."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A model whose prices could not be read, and why."""

    model: str
    budget_pusd: int
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields for machines, as `Estimate.to_json` does."""
        return {"model": self.model, "budget_usd": usd_text(self.budget_pusd), "not_estimated": self.why}


Found = Estimate | Unread


def report(found: Sequence[Found], expect_tokens: int) -> Iterator[TextTable | str]:
    """Yield the table, and beneath it what its figures mean."""
    yield TextTable(COLUMNS, [_row(each) for each in found], notes=[_note(each) for each in found])
    yield ""
    yield f"Calls of {expect_tokens:,} prompt tokens, reserved as {BYTES_PER_TOKEN * expect_tokens:,} bytes of text."
    yield "Each is taken at its worst case. Real calls cost less, so a run gets more."
    yield "Nothing was spent."


def is_affordable(found: Found) -> bool:
    """Whether the budget is known to afford a call."""
    return isinstance(found, Estimate) and found.calls > 0


def why_nothing(found: Sequence[Found]) -> str:
    """Return why no prices could be read, "" if some were."""
    whys = [each.why for each in found if isinstance(each, Unread)]
    return "; ".join(dict.fromkeys(whys)) if len(whys) == len(found) else ""


def _row(found: Found) -> tuple[str, ...]:
    if isinstance(found, Unread) or found.why_none:
        return (found.model, dollars(found.budget_pusd), "-", "-" if isinstance(found, Unread) else "no call", "-")
    first = "refused" if found.first_bound is None else f"{found.first_bound:,} tokens" if found.bound else "-"
    return found.model, dollars(found.budget_pusd), rounded_up(found.worst_pusd), calls_text(found), first


def _note(found: Found) -> str:
    if isinstance(found, Unread):
        return f"not estimated: {found.why}"
    if found.why_none:
        return f"every call is refused: {found.why_none}"
    least = f"one call takes at least {rounded_up(found.least_pusd)}: " if not found.calls else ""
    return f"{least}{advice(found)}"
