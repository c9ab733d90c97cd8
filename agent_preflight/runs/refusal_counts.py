"""Why calls are not served, told to a person as it happens: each reason once."""

from __future__ import annotations

from agent_preflight.runs.verdict import told_at_once
from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.core.refusals.outcomes import Cause, Source

TOLD_MAX = 50
"""Reasons that are told for one trial; an agent can word any number of wrong requests."""


class Refusals:
    """Remembers which reasons a person has been told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def hear(self, event: LedgerEvent) -> str | None:
        """Take a `refused` or `unserved` event; returns a sentence the first time that the reason comes up."""
        cause = _cause(event)
        if cause is None or (cause.code, cause.text) in self._told or len(self._told) >= TOLD_MAX:
            return None
        sentence = told_at_once(cause)
        if sentence is not None:
            self._told.add((cause.code, cause.text))
        return sentence


def _cause(event: LedgerEvent) -> Cause | None:
    try:
        return Cause(
            event.code or "", Source(event.source or ""), event.text or "", event.model or "", event.detail or ""
        )
    except ValueError:
        return None
