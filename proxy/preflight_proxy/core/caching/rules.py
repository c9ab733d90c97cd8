"""What providers cache, from how many tokens on, for how long, and what caching saves.

Source: openrouter.ai/docs/guides/best-practices/prompt-caching; platform.claude.com/docs/en/build-with-claude/prompt-caching;
platform.openai.com/docs/guides/prompt-caching; ai.google.dev/gemini-api/docs/caching; api-docs.deepseek.com/guides/kv_cache; all
of 2026-10.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from preflight_proxy.core.money import charge_pusd
from preflight_proxy.core.pricing.endpoint import EndpointPrices
from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.shape import CallUsage, Request

MINUTES_5_S = 300.0
HOUR_S = 3600.0

_ANTHROPIC_MIN_TOKENS = {
    512: ("fable-5", "opus-5", "sonnet-5.5", "haiku-5.5"),
    1024: ("opus-4.8", "opus-4.1", "opus-4", "sonnet-5", "sonnet-4.6", "sonnet-4.5", "sonnet-4", "3.7-sonnet"),
    2048: ("opus-4.7", "haiku-3.5", "3.5-haiku"),
    4096: ("opus-4.6", "opus-4.5", "haiku-4.5"),
}
_OPTION_LIFETIMES_S = {"30m": 1800.0, "12h": 12 * HOUR_S, "24h": 24 * HOUR_S, "in_memory": MINUTES_5_S}


class CacheRule(msgspec.Struct, frozen=True):
    """How a family of models caches.

    Attributes:
        min_tokens: The shortest prefix that is cached; 0 where none is published.
        lifetime_s: How long a prefix surely stays after its last use; providers often keep it longer.
        marked: True if only what the request marks with `cache_control` is cached.
    """

    min_tokens: int = 0
    lifetime_s: float = MINUTES_5_S
    marked: bool = False


_FAMILIES = {
    "openai/": CacheRule(1024),
    "google/gemini-3.": CacheRule(4096),
    "google/gemini-4": CacheRule(4096),
    "google/gemini-2.5": CacheRule(2048),
    "google/": CacheRule(1024),
    "deepseek/": CacheRule(64, HOUR_S),
    "qwen/": CacheRule(marked=True),
    "": CacheRule(),
}
_ANTHROPIC = {
    f"anthropic/claude-{name}": CacheRule(min_tokens, marked=True)
    for min_tokens, names in _ANTHROPIC_MIN_TOKENS.items()
    for name in names
}
_RULES = {**_FAMILIES, "anthropic/": CacheRule(1024, marked=True), **_ANTHROPIC}
_LONGEST_FIRST = sorted(_RULES, key=len, reverse=True)


@lru_cache(1024)
def cache_rule(model: str) -> CacheRule:
    """Return how a model caches: the rule of the longest known beginning of its id."""
    return _RULES[next(known for known in _LONGEST_FIRST if model.startswith(known))]


def lifetime_s(rule: CacheRule, request: Request) -> float:
    """Return how long a cache that this request writes surely lives: its family's time, or a longer one that it asks for.

    OpenAI's fields for that are `prompt_cache_retention`, and the `ttl` of `prompt_cache_options`.
    """
    if request.prompt.cache_1h:
        return HOUR_S
    for name in ("prompt_cache_retention", "prompt_cache_options"):
        if name in request.fields:
            option = body.value(bytes(request.fields[name]))
            lifetime = option.get("ttl") if isinstance(option, dict) else option
            return max(rule.lifetime_s, _OPTION_LIFETIMES_S.get(lifetime, 0.0) if isinstance(lifetime, str) else 0.0)
    return rule.lifetime_s


def saved_pusd(prices: EndpointPrices, usage: CallUsage, *, hour: bool) -> int:
    """Return what caching made this call cheaper, in pico-USD; negative where it wrote more than it read.

    Args:
        prices: Of the endpoint that served, the largest where they vary.
        usage: What the call used.
        hour: True if the request asked for writes that live an hour.
    """
    if not usage.cached_tokens and not usage.cache_write_tokens:
        return 0
    read = prices.prompt if prices.cache_read is None else prices.cache_read
    write = prices.cache_write_1h if hour and prices.cache_write_1h is not None else prices.cache_write
    saved = charge_pusd(usage.cached_tokens, prices.prompt) - charge_pusd(usage.cached_tokens, read)
    if write is None:
        return saved
    return saved - (charge_pusd(usage.cache_write_tokens, write) - charge_pusd(usage.cache_write_tokens, prices.prompt))
