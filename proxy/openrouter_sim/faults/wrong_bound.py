"""Endpoints that list `max_tokens` and do not honour it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class WrongBound(Fault):
    """The completion is `factor` times the bound (or `tokens`), never above what the endpoint can make at all."""

    name: ClassVar[str] = "wrong_bound"
    factor: Decimal = Decimal(4)
    tokens: int = 0

    def arrange(self, call: SimCall) -> None:
        """Make the completion longer than asked."""
        if call.ask.bound is None and not self.tokens:
            return
        wanted = self.tokens or int((call.ask.bound or 0) * self.factor)
        count = min(wanted, call.endpoint.output_tokens_max)
        call.tokens = replace(call.tokens, completion=max(count, call.tokens.completion))
        call.reply = replace(call.reply, tokens=call.tokens.completion, finish="stop")
