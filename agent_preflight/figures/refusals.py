"""Why calls of trials were not served. Pure."""

from __future__ import annotations

import msgspec

from agent_preflight.runs.record import RunRecord, TrialRecord


class Refusal(msgspec.Struct, frozen=True):
    """Calls of a trial that were not served for one reason. `source` is who is the reason: `budget`, `upstream`, `proxy`, ..."""

    alias: str
    base: str
    code: str
    source: str
    count: int
    text: str
    detail: str


def refusals_of(record: RunRecord) -> tuple[Refusal, ...]:
    """Return why calls were not served, by trial."""
    return tuple(refusal for trial in record.trials for refusal in _refusals(trial))


def _refusals(trial: TrialRecord) -> tuple[Refusal, ...]:
    """Return why calls of a trial were not served: from its account, else from its summary."""
    if trial.account is not None:
        causes = [msgspec.to_builtins(cause) for cause in trial.account.outcomes.causes]
    else:
        listed = trial.block.get("not_served")
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
