"""Which family caches what, and what it saves."""

import json
from typing import Any

from preflight_proxy.core.caching.rules import cache_rule, lifetime_s, saved_pusd
from preflight_proxy.core.pricing.endpoint import EndpointPrices
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.shape import CallUsage
from tests.support.cases import each

USD = 10**12


@each(
    "model, min_tokens, marked",
    [
        ("anthropic/claude-opus-4.6", 4096, True),
        ("anthropic/claude-opus-4.1", 1024, True),
        ("anthropic/claude-opus-4", 1024, True),
        ("anthropic/claude-opus-5.5", 512, True),
        ("anthropic/claude-haiku-4.5:beta", 4096, True),
        ("anthropic/claude-unheard-of", 1024, True),
        ("openai/gpt-4.1-nano", 1024, False),
        ("google/gemini-2.5-pro", 2048, False),
        ("google/gemini-3.8-flash", 4096, False),
        ("google/gemma-3-27b-it", 1024, False),
        ("qwen/qwen3-coder", 0, True),
        ("unheard/of", 0, False),
    ],
)
def test_the_longest_known_beginning_of_an_id_rules(model: str, min_tokens: int, marked: bool) -> None:
    assert (cache_rule(model).min_tokens, cache_rule(model).marked) == (min_tokens, marked)


@each(
    "more, seconds",
    [
        ({}, 300),
        ({"prompt_cache_retention": "24h"}, 86400),
        ({"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}, 1800),
        ({"prompt_cache_options": {"mode": "explicit"}}, 300),
        ({"prompt_cache_retention": 7}, 300),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, 3600),
    ],
)
def test_a_request_may_ask_for_a_longer_life(more: dict[str, Any], seconds: float) -> None:
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "x"}], **more}
    request = SHAPES["/chat/completions"].read(json.dumps(body).encode(), "drop")
    assert lifetime_s(cache_rule(request.model), request) == seconds


def test_reading_saves_and_writing_costs() -> None:
    prices = EndpointPrices(prompt=3 * USD, completion=0, cache_read=USD, cache_write=4 * USD, cache_write_1h=6 * USD)
    assert saved_pusd(prices, CallUsage(cached_tokens=1000), hour=False) == 2000 * 10**6
    assert saved_pusd(prices, CallUsage(cached_tokens=1000, cache_write_tokens=1000), hour=False) == 1000 * 10**6
    assert saved_pusd(prices, CallUsage(cache_write_tokens=1000), hour=True) == -3000 * 10**6


def test_without_prices_of_its_own_a_cache_saves_nothing() -> None:
    prices = EndpointPrices(prompt=3 * USD, completion=0)
    assert saved_pusd(prices, CallUsage(cached_tokens=1000, cache_write_tokens=10), hour=True) == 0
