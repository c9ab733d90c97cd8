"""The largest new prompt that an amount affords. Headers, budget.txt, `status` and `estimate` show it.

A new prompt is one message of plain text of which nothing was billed before. Its tokens are those that `token_count` counts.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.money import TOKENS_PER_MTOK
from preflight_proxy.core.pricing.prompt_bound import TEMPLATE_TOKENS, WRAP_TOKENS

NAMES_TOKENS = 64
"""The names of the fields and roles of two messages, which are counted as text."""
FIXED_TOKENS = TEMPLATE_TOKENS + 2 * WRAP_TOKENS + NAMES_TOKENS
"""What is counted at most beside the text of two messages."""
FIGURES = 3
"""Significant figures of the tokens that a person reads."""


class PriceTier(msgspec.Struct, frozen=True, gc=False):
    """What an endpoint charges at most for prompts that count as more than so many tokens.

    Attributes:
        above_tokens: It holds for prompts that count as more than this; -1 for all.
        floor_pusd: The least answer and the price of a request.
        prompt_price: Pico-USD per million prompt tokens.
    """

    above_tokens: int
    floor_pusd: int
    prompt_price: int


class PromptRate(msgspec.Struct, frozen=True, gc=False):
    """What a new prompt is reserved at on one endpoint.

    Attributes:
        model: The model.
        tokens_max: The most prompt tokens that the endpoint takes.
        percent: What a token counts as, in hundredths of a token.
        tiers: Its prices, those for the longest prompts first.
    """

    model: str
    tokens_max: int
    percent: int
    tiers: tuple[PriceTier, ...]


def counted_tokens(tokens: int, percent: int) -> int:
    """Return what a new prompt of so many tokens counts as, where a token counts as so many hundredths of one."""
    return FIXED_TOKENS - (-tokens * percent // 100)


def fits_tokens(rate: PromptRate, available_pusd: int) -> int:
    """Return the tokens of the largest new prompt that an amount affords with the shortest answer; 0 if it affords none."""
    tokens_max = rate.tokens_max
    for tier in rate.tiers:
        left_pusd = available_pusd - tier.floor_pusd
        if left_pusd >= 0:
            affordable = left_pusd * TOKENS_PER_MTOK // tier.prompt_price if tier.prompt_price else tokens_max
            counted = affordable if affordable < tokens_max else tokens_max
            if counted > tier.above_tokens:
                if counted == rate.tokens_max:
                    return counted  # a longer one is not taken, so none counts as more
                return max(0, counted - FIXED_TOKENS) * 100 // rate.percent
        tokens_max = tier.above_tokens
    return 0


def fits_text(model: str | None, tokens: int | None) -> str:
    """Return the line that tells a person, its figure rounded down; empty if nothing is known."""
    if tokens is None:
        return ""
    step = 10 ** max(0, len(str(tokens)) - FIGURES)
    return f"Largest new prompt: ~{tokens // step * step:,} tokens ({model})"
