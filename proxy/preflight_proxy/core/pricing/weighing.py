"""Weighs a prompt that does not fit by its estimate: a small call with random slices of it shows how many tokens its text makes.

    most tokens of the prompt = its estimate x billed tokens of the slices / their estimate x 1.15

Measured 2026-11 over 784 draws: never too low, and 1.15 times the true count in the median.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from preflight_proxy.core.money import TOKENS_PER_MTOK
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.prompt_bound import WRAP_TOKENS, constant_tokens
from preflight_proxy.core.pricing.text_sizes import TextSizes
from preflight_proxy.core.pricing.token_estimate import tokens_at_most
from preflight_proxy.core.shapes.provider import provider_bytes
from preflight_proxy.core.shapes.shape import Prompt, Request

PURPOSE = "weighing"
"""The purpose of its reservation, and of its line in costs.jsonl."""
SLICES, SLICE_BYTES = 24, 100
WEIGHED_PERCENT = 115
HOPE_PERCENT = 180
"""A prompt is weighed if it fits with its estimate divided by this. Of no text is the estimate looser than that."""
SHARE_PERCENT_MAX = 2
"""A weighing costs at most this part of what is available, or it is not made."""
WEIGHINGS_MAX, WEIGHINGS_S = 3, 600.0
"""So many weighings of one account, in so many seconds."""
APIS = ("chat", "messages", "responses")
"""Those whose prompts can be weighed."""
OUTPUT_TOKENS_MIN = 16
"""The least output bound of the responses API, by which OpenRouter calls OpenAI's models whatever the API of the call.

Source: platform.openai.com/docs/api-reference/responses, `max_output_tokens`, 2026-11.
"""
REASONS_ALWAYS = (
    *("openai/o1", "openai/o3", "openai/o4", "openai/gpt-5", "openai/gpt-oss", "openai/codex", "google/gemini-2.5-pro"),
    *("google/gemini-3", "deepseek/deepseek-r1", "x-ai/grok-3-mini", "x-ai/grok-4", "qwen/qwq", "minimax/minimax-m"),
)
"""Beginnings of model ids that cannot be told not to reason: an output bound of one token is an error there, or tells nothing.

Source: `reasoning.mandatory` of openrouter.ai/api/v1/models and the makers' pages, 2026-11.
"""


def is_weighable(endpoint: Endpoint, api: str) -> bool:
    """True if a weighing on this endpoint is bounded and tells something."""
    model = endpoint.model
    always_reasons = model.startswith(REASONS_ALWAYS) or "thinking" in model or "reasoning" in model
    return api in APIS and endpoint.honours_bound and not always_reasons


def slices(text: bytes, below: Callable[[int], int]) -> str:
    """Return random slices of a text, whole characters each; a text that is not longer, whole.

    Args:
        text: As UTF-8.
        below: Returns a random number below its argument.
    """
    if len(text) <= SLICES * SLICE_BYTES:
        return text.decode("utf-8", "ignore")
    starts = [below(len(text) - SLICE_BYTES + 1) for _ in range(SLICES)]
    return "\n".join([text[start : start + SLICE_BYTES].decode("utf-8", "ignore") for start in starts])


def output_tokens(api: str, model: str) -> int:
    """Return the least output bound that a call can have.

    Args:
        api: The name of its shape.
        model: Its model, with or without a suffix.
    """
    return OUTPUT_TOKENS_MIN if api == "responses" or model.lower().lstrip("~").startswith("openai/") else 1


def weighing_body(request: Request, tag: str, text: str) -> bytes:
    """Return the body of a call that has nothing but this text, and asks for as little as its API allows.

    Args:
        request: The weighed call, whose model and wishes about providers it has.
        tag: The one endpoint that may serve it.
        text: The slices.
    """
    bound = output_tokens(request.shape, request.model)
    if request.shape == "responses":
        fields: dict[str, object] = {"model": request.model, "input": text, "max_output_tokens": bound}
    else:
        messages = [{"role": "user", "content": text}]
        fields = {"model": request.model, "messages": messages, "max_tokens": bound}
    return json.dumps(fields).encode()[:-1] + b',"provider":' + provider_bytes(request, (tag,), {}) + b"}"


def expected_pusd(endpoint: Endpoint, sizes: TextSizes, api: str) -> int:
    """Return what a weighing costs by the estimate of its text, at list prices."""
    prices = endpoint.prices_within(sizes.after(None) // 1000)
    output_pusd = output_tokens(api, endpoint.model) * prices.completion
    return (sizes.after(None) * prices.prompt // 1000 + output_pusd) // TOKENS_PER_MTOK


def hope_factor(family: str) -> int:
    """Return by what to multiply estimates, in thousandths, for the least tokens that a weighing may show, margin included."""
    return 1000 * 1000 * 100 // (HOPE_PERCENT * tokens_at_most(1000 * 1000, family))


class Weighing(msgspec.Struct, frozen=True):
    """What a weighing has shown.

    Attributes:
        slices: The estimates of the slices.
        billed: The prompt tokens that they were billed at.
        known: How many messages of the prompt were known by bills, None if none. The slices are of all the others.
        known_tokens: The most tokens that these have.
    """

    slices: TextSizes
    billed: int
    known: int | None
    known_tokens: int

    def tokens(self, prompt: Prompt, sizes: TextSizes) -> int:
        """Return the most tokens of a prompt, its other fields included.

        Args:
            prompt: What was weighed.
            sizes: The estimates of its texts.
        """
        estimate = sizes.after(self.known)
        tokens = -(-estimate * self.billed * WEIGHED_PERCENT // (100 * self.slices.after(None)))
        return self.known_tokens + tokens + WRAP_TOKENS * prompt.message_count + constant_tokens(prompt)
