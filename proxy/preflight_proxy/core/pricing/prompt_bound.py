"""No more prompt tokens than this, per endpoint (M3).

A byte-level tokenizer makes at most one token of a byte, Claude's at most two. What a template adds is bounded by constants; what a
normaliser adds, by the factor of its tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.token_estimate import family_of, margin_percent
from preflight_proxy.core.shapes.shape import Prompt

TEMPLATE_TOKENS = 256
"""The template's own text: default system prompts, dates, the opening of the answer. The longest known are about 150."""
TOOL_USE_TOKENS = 1024
"""The tool-use prompt that comes with the first tool: up to about 530 tokens on Anthropic (their pricing page, 2026-10)."""
TOOL_TOKENS = 32
"""What wraps one tool's declaration."""
BYTES_PER_TOKEN = 4
"""Bytes of ASCII text for each token of a prompt that is known by its tokens alone, as in English and in code."""
WRAP_TOKENS = 16
"""What wraps one message, part or tool call: role and channel marks. The longest known (harmony) take 12."""

CLAUDE_ASCII_FACTOR = 2
"""Claude's tokenizers make more than one token of a byte: crafted ASCII reaches 1.7. Measured 2026-11, see docs/money.md, M3."""
NFC_FACTOR = 3
"""Canonical composition makes at most 3 bytes of one: U+1D160 is 4 bytes and becomes 12. Assumed where nothing is known."""
NFKC_FACTOR = 11
"""Compatibility composition makes 33 bytes of the 3 of U+FDFA."""
FACTORS: Mapping[str, int] = {"GPT": 1, "Llama3": 1, "Llama4": 1, "DeepSeek": 1, "Mistral": 1}
"""Tokenizer families without a normaliser: one byte stays one byte.

Source: the `normalizer` of the published tokenizer.json of each family; tiktoken has none. Read 2026-10.
"""
NFKC_MODELS = (
    "baai/",
    "intfloat/",
    "sentence-transformers/",
    "thenlper/",
    "google/embedding",
    "google/gemini-embedding",
)
"""Embedding models whose sentencepiece tokenizers normalise by NFKC, or are not known not to."""


def prompt_bound(prompt: Prompt, endpoint: Endpoint) -> int:
    """The most tokens that `endpoint` can count for `prompt`.

    Parts whose tokens the request does not bound (media) leave only the endpoint's own ceiling.
    """
    ceiling = prompt_tokens_max(endpoint) * prompt.sequence_count
    if prompt.opaque_media:
        return ceiling
    tokens = text_tokens(prompt.ascii_bytes, prompt.other_bytes, prompt.message_count, endpoint)
    tokens += ascii_factor(endpoint) * prompt.tool_bytes + constant_tokens(prompt)
    return tokens if tokens < ceiling else ceiling


def prompt_tokens_max(endpoint: Endpoint) -> int:
    """The most tokens of one prompt that `endpoint` takes."""
    return endpoint.context_length if endpoint.max_prompt_tokens is None else endpoint.max_prompt_tokens


def constant_tokens(prompt: Prompt) -> int:
    """The most tokens that templates and tool use add to a prompt, beside what wraps each message."""
    tokens = TEMPLATE_TOKENS * prompt.sequence_count
    return tokens + TOOL_USE_TOKENS + TOOL_TOKENS * prompt.tool_count if prompt.tool_count else tokens


def text_tokens(ascii_bytes: int, other_bytes: int, wrap_count: int, endpoint: Endpoint) -> int:
    """The most tokens of text of that many bytes, in that many wrappings."""
    tokens = ascii_factor(endpoint) * ascii_bytes + WRAP_TOKENS * wrap_count
    return tokens + _factor(endpoint.model, endpoint.tokenizer) * other_bytes if other_bytes else tokens


def token_percent(endpoint: Endpoint, factor: int | None = 1000) -> int:
    """What a token of plain text counts as, in hundredths: with the margin of the estimate, or by its bytes.

    Args:
        endpoint: Where.
        factor: Thousandths by which estimates are multiplied there; None where bytes are counted.
    """
    if factor is None:
        return 100 * BYTES_PER_TOKEN * ascii_factor(endpoint)
    family = family_of(endpoint.model, endpoint.tokenizer)
    return min(token_percent(endpoint, None), -(-margin_percent(family) * factor // 1000))


def ascii_factor(endpoint: Endpoint) -> int:
    """The most tokens that one byte of ASCII can become."""
    return CLAUDE_ASCII_FACTOR if endpoint.tokenizer == "Claude" or endpoint.model.startswith("anthropic/") else 1


@lru_cache(1024)
def _factor(model: str, tokenizer: str) -> int:
    """Tokens that one byte outside ASCII can become."""
    if model.lower().lstrip("~").startswith(NFKC_MODELS):
        return NFKC_FACTOR
    return FACTORS.get(tokenizer, NFC_FACTOR)
