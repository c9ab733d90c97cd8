"""Why calls are not served, told to a person as it happens: each reason once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_preflight.runs.verdict import told_at_once
from preflight_proxy.core.refusals.outcomes import Cause, Source

TOLD_MAX = 50
"""Reasons that are told for one trial; an agent can word any number of wrong requests."""


class Refusals:
    """Remembers which reasons a person has been told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def hear(self, facts: Mapping[str, Any]) -> str | None:
        """Take the facts of a `refused` or `unserved` event; returns a sentence the first time that the reason comes up."""
        cause = _cause(facts)
        if cause is None or (cause.code, cause.text) in self._told or len(self._told) >= TOLD_MAX:
            return None
        sentence = told_at_once(cause)
        if sentence is not None:
            self._told.add((cause.code, cause.text))
        return sentence


def _cause(facts: Mapping[str, Any]) -> Cause | None:
    code, text, model, detail = (str(facts.get(name) or "") for name in ("code", "text", "model", "detail"))
    try:
        return Cause(code, Source(str(facts.get("source"))), text, model, detail)
    except ValueError:
        return None
