"""Whether the trials of a run had the same conditions. Pure."""

from __future__ import annotations

import msgspec

from agent_preflight.runs.record import RunRecord


class FairnessRow(msgspec.Struct, frozen=True):
    """One condition. `is_fair` is None where it is not known, or is neither fair nor unfair; then `answer` says so."""

    question: str
    answer: str
    is_fair: bool | None


def fairness_of(record: RunRecord) -> tuple[FairnessRow, ...]:
    """Return the conditions of a run, the same ones for every run."""
    return ()
