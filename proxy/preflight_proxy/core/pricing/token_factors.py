"""Where upstream counted more tokens than estimated: evidence raises the estimates, and never lowers them (M24 (exposure))."""

from __future__ import annotations

from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.prompt_bound import TEMPLATE_TOKENS, WRAP_TOKENS, constant_tokens
from preflight_proxy.core.pricing.text_sizes import TextSizes
from preflight_proxy.core.pricing.token_estimate import tokens_at_most
from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes.shape import Prompt

EVIDENCE_BYTES_MIN = 1000
"""A bill for less new text says little, because the tokens of templates are part of it."""
FACTORS_MAX = 4096
"""Accounts times endpoints that are remembered."""
AS_ESTIMATED = 1000
"""The factor of an endpoint that never counted more than estimated, in thousandths."""
BY_BYTES = 10**9
"""The factor of an endpoint that counted more than the measured bound: there, no estimate is used."""


class TokenFactors:
    """By how much estimates of tokens are multiplied, in thousandths, by account and endpoint."""

    def __init__(self) -> None:
        self._factors: Recent[tuple[str, str, str], int] = Recent(FACTORS_MAX)

    def of(self, account: str, endpoint: Endpoint) -> int:
        """Return the factor of an endpoint for an account; `BY_BYTES` where its prompts count by their bytes."""
        return self._factors.get((account, endpoint.model, endpoint.tag)) or AS_ESTIMATED

    def see(
        self, account: str, endpoint: Endpoint, prompt: Prompt, sizes: TextSizes, known: int | None, billed: int
    ) -> int:
        """Learn from a bill; return what it says: `AS_ESTIMATED` if no estimate was too low.

        Args:
            account: Whose call it was.
            endpoint: Which served it.
            prompt: Its prompt.
            sizes: The estimates.
            known: How many of its messages were billed before; None: none, and no other field.
            billed: The prompt tokens that were billed for all the rest.
        """
        factor = _factor(prompt, sizes, known, billed)
        if factor > self.of(account, endpoint):
            self._factors.put((account, endpoint.model, endpoint.tag), factor)
        return factor


def _factor(prompt: Prompt, sizes: TextSizes, known: int | None, billed: int) -> int:
    """What was billed for the rest of a prompt, divided by its estimate; `BY_BYTES` if that was above the measured bound."""
    rest = prompt.messages[known or 0 :]
    text_bytes = sum([message.ascii_bytes + message.other_bytes for message in rest])
    if known is None:
        text_bytes += prompt.tool_bytes
    if text_bytes < EVIDENCE_BYTES_MIN or prompt.opaque_media:
        return AS_ESTIMATED
    estimate = sizes.after(known)
    wrap_tokens = WRAP_TOKENS * sum([message.wrap_count for message in rest])
    measured = tokens_at_most(estimate, sizes.family) + wrap_tokens + constant_tokens(prompt) + prompt.opaque_bytes
    if billed > measured:
        return BY_BYTES
    tool_use_tokens = constant_tokens(prompt) - TEMPLATE_TOKENS if known is None else 0  # no text of the request
    return max(AS_ESTIMATED, -(-(billed - tool_use_tokens) * 10**6 // estimate))
