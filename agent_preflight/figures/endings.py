"""How trials ended, and why calls of theirs were not served. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent_preflight.runs.record import RunRecord, TrialRecord


class Ending(msgspec.Struct, frozen=True):
    """How a trial ended. `by` is who ended it, as `ended_by` in summary.json; empty in older runs."""

    alias: str
    base: str
    status: str
    by: str
    text: str
    duration_s: float | None


class Refusal(msgspec.Struct, frozen=True):
    """Calls of a trial that were not served for one reason. `source` is who is the reason: `budget`, `upstream`, `proxy`, ..."""

    alias: str
    base: str
    code: str
    source: str
    count: int
    text: str
    detail: str


def endings_of(record: RunRecord) -> tuple[Ending, ...]:
    """Return how each trial ended that has."""
    return tuple(_ending(trial) for trial in record.trials if trial.status.ended)


def refusals_of(record: RunRecord) -> tuple[Refusal, ...]:
    """Return why calls were not served, by trial."""
    return tuple(refusal for trial in record.trials for refusal in _refusals(trial))


def _refusals(trial: TrialRecord) -> tuple[Refusal, ...]:
    """Return why calls of a trial were not served: from its account, else from its summary."""
    if trial.account is not None:
        causes = [msgspec.to_builtins(cause) for cause in trial.account.outcomes.causes]
    else:
        block = trial.summary.get("preflight")
        listed = block.get("not_served") if isinstance(block, Mapping) else None
        causes = [cause for cause in listed if isinstance(cause, dict)] if isinstance(listed, list) else []
    return tuple(
        Refusal(
            trial.status.alias,
            trial.base,
            code=str(cause.get("code", "")),
            source=str(cause.get("source", "")),
            count=count if isinstance(count := cause.get("count"), int) else 1,
            text=str(cause.get("text", "")),
            detail=str(cause.get("detail", "")),
        )
        for cause in causes
    )


def _ending(trial: TrialRecord) -> Ending:
    block, status = trial.summary.get("preflight"), trial.status
    by = block.get("ended_by") if isinstance(block, Mapping) else None
    return Ending(
        status.alias, trial.base, status.status, by if isinstance(by, str) else "", status.note, status.duration_s
    )
