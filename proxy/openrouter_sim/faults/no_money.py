"""Refusals for money, in the words of OpenRouter.

Source: openrouter.ai/docs/api_reference/{limits,errors-and-debugging} and public reports of 402 and 403, 2026-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall

_MORE_CREDIT = "To increase, visit https://openrouter.ai/settings/credits and add more credits"
_MORE_LIMIT = "To increase, visit https://openrouter.ai/settings/keys and create a key with a higher daily limit"
_SPENT = "Manage it using https://openrouter.ai/workspaces/default/keys/3f"
_TOO_DEAR = (
    "This request requires more credits, or fewer max_tokens. You requested up to {asked} tokens, but can only afford "
)

_CAUSES: dict[str, tuple[int, str, dict[str, object]]] = {
    "credit": (
        402,
        "Insufficient credits. Add more using https://openrouter.ai/credits",
        {"limit_source": "openrouter_credits"},
    ),
    "credit_bare": (402, "Insufficient credits. Add more using https://openrouter.ai/credits", {}),
    "affords": (
        402,
        _TOO_DEAR + "{tokens}. " + _MORE_CREDIT,
        {"limit_source": "openrouter_credits", "provider_name": None, "remedy_hint": "Lower max_tokens."},
    ),
    "key_affords": (402, _TOO_DEAR + "{tokens}. " + _MORE_LIMIT, {"limit_source": "openrouter_key_limit"}),
    "key_affords_bare": (402, _TOO_DEAR + "{tokens}. " + _MORE_LIMIT, {}),
    "prompt": (402, "Prompt tokens limit exceeded: 15000 > {tokens}. " + _MORE_CREDIT, {}),
    "weight": (
        402,
        "This request is larger than the in-flight budget of the account",
        {"limit_source": "openrouter_credits", "reason": "weight_exceeds_budget"},
    ),
    "key_limit": (
        403,
        "Key limit exceeded (daily limit): $20.05 of $20.00 used. " + _SPENT,
        {"limit_source": "openrouter_key_limit", "scope": "key_limit", "resets_at": "2026-10-02T00:00:00Z"},
    ),
    "key_limit_bare": (403, "Key limit exceeded (total limit). " + _SPENT, {}),
    "guardrail": (403, "Guardrail budget exceeded", {"limit_source": "openrouter_guardrail_budget"}),
    "workspace": (403, "Workspace budget exceeded", {"limit_source": "openrouter_workspace_budget"}),
}


@dataclass(frozen=True, slots=True)
class NoMoney(Fault):
    """The call is refused for money. Where tokens are affordable, one that asks for no more of them is served.

    Attributes:
        cause: One of `credit`, `affords`, `key_affords`, `prompt`, `weight`, `key_limit`, `guardrail`, `workspace`; with
            `_bare` behind three of them, the text comes without its metadata.
        tokens: The output tokens that are affordable, for `affords` and `key_affords`.
        for_ever: A call that asks for no more than that is refused as well.
    """

    name: ClassVar[str] = "no_money"
    cause: str = "credit"
    tokens: int = 1200
    for_ever: bool = False

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the refusal, unless the call has become affordable."""
        asked = call.endpoint.output_tokens_max if call.ask.bound is None else call.ask.bound
        if "affords" in self.cause and asked <= self.tokens and not self.for_ever:
            return None
        status, message, metadata = _CAUSES[self.cause]
        return ApiError(status, message.format(asked=asked, tokens=self.tokens), metadata=dict(metadata))
