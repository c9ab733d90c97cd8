"""Token figures from the usage objects that agents and providers print, whatever their spelling."""

from collections.abc import Mapping
from typing import Any

import msgspec

from agent_preflight.models import CacheStats


class TokenUsage(msgspec.Struct, frozen=True):
    """The tokens of one request; ``prompt_tokens`` includes those read from a cache.

    ``tells_cache`` is True if the object had a cache field, even with 0.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    tells_cache: bool


def read_usage(usage: object) -> TokenUsage | None:
    """Read one usage object; None if it is no object or has no prompt tokens.

    The cache fields have two spellings. If both are present, the one in ``prompt_tokens_details`` counts; they are not added.
    A value that is no number counts as 0.

    Source: openrouter.ai/docs/use-cases/usage-accounting; docs.anthropic.com/en/docs/build-with-claude/prompt-caching.
    """
    if not isinstance(usage, Mapping) or not (prompt_tokens := _count(usage.get("prompt_tokens"))):
        return None
    member = usage.get("prompt_tokens_details")
    details: Mapping[str, Any] = member if isinstance(member, Mapping) else {}
    reads = details.get("cached_tokens"), usage.get("cache_read_input_tokens")
    writes = details.get("cache_write_tokens"), usage.get("cache_creation_input_tokens")
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_first_count(reads),
        cache_write_tokens=_first_count(writes),
        tells_cache=any(value is not None for value in (*reads, *writes)),
    )


def add_usage(stats: CacheStats, usage: TokenUsage) -> None:
    """Add one request to the sums."""
    stats.total_prompt_tokens += usage.prompt_tokens
    stats.cached_tokens += usage.cached_tokens
    stats.cache_creation_tokens += usage.cache_write_tokens
    stats.request_count += 1
    stats.cache_hit_requests += usage.cached_tokens > 0


def _first_count(values: tuple[object, object]) -> int:
    return next((count for count in map(_count, values) if count), 0)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)
