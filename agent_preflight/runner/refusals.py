"""Calls that were refused for another reason than the budget: what a person must know who wonders why nothing was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight_proxy.core.refusals import Code

MODEL_CHARS_MAX = 80


class Refusals:
    """Counts a trial's refused calls by reason; budget refusals are what a budget is for, and not counted."""

    def __init__(self) -> None:
        self._count: dict[Code, int] = {}
        self._model: dict[Code, str] = {}

    def hear(self, facts: Mapping[str, Any]) -> str | None:
        """Take the facts of a `refused` event; returns a sentence for a person the first time that the reason comes up."""
        code = _code(facts.get("code"))
        if code is None or code.is_budget:
            return None
        self._count[code] = self._count.get(code, 0) + 1
        self._model.setdefault(code, str(facts.get("model", ""))[:MODEL_CHARS_MAX])
        return f"a call to {self._model[code]} was refused: {code.sentence}" if self._count[code] == 1 else None

    def sentences(self) -> list[str]:
        """Return one for each reason."""
        return [_sentence(code, count, self._model[code]) for code, count in self._count.items()]


def _code(name: object) -> Code | None:
    return Code.__members__.get(str(name).upper())


def _sentence(code: Code, count: int, model: str) -> str:
    calls = "1 call was" if count == 1 else f"{count} calls were"
    return f"{calls} refused, the first to {model}: {code.sentence}"
