"""Which beginnings of prompts a provider's cache has: what a call read from it or wrote to it (M6 (price), `cache_bound`).

A later call that begins in the same way, on the same endpoint, reads that part again.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.pricing.endpoint import WRITES_ON_REQUEST, Endpoint
from preflight_proxy.core.pricing.known_prefixes import KnownPrefixes
from preflight_proxy.core.shapes.shape import CallUsage, Request

CACHED_S = 240.0
"""So long after its last use began, a prefix is surely in the cache. Providers keep it for five minutes at least."""
LOOK_BACK_BLOCKS = 20
"""From a mark, a provider looks back so many blocks of content for a prefix that it has.

Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, 2026-10.
"""
CACHED_PREFIXES_MAX = 4096
"""Prefixes remembered; those not used for long are forgotten first."""


class CachedPrefix(msgspec.Struct, frozen=True, gc=False):
    """What a cache has of a prompt.

    Attributes:
        tokens: How many tokens.
        until_s: Until when it surely has them, monotonic.
        marked_count: How many messages come before the last mark, the one with the mark included.
    """

    tokens: int
    until_s: float
    marked_count: int


class CachedPrefixes:
    """What caches have, by account, model, endpoint, other fields and messages."""

    def __init__(self) -> None:
        self._prefixes = KnownPrefixes[CachedPrefix](CACHED_PREFIXES_MAX)

    def note(self, account: str, request: Request, endpoint: Endpoint, usage: CallUsage, began_s: float) -> None:
        """Remember what the cache has after a call whose bill counts for its tokens (M4).

        Args:
            account: Whose call.
            request: As read.
            endpoint: Which served it.
            usage: As billed.
            began_s: When the call began, monotonic: its use of the cache came later.
        """
        prompt, count = request.prompt, len(request.prompt.messages)
        tokens = min(usage.cached_tokens + usage.cache_write_tokens, usage.prompt_tokens)
        prefix = CachedPrefix(tokens, began_s + CACHED_S, max(_marks(request), default=0))
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        self._prefixes.remember(fields, count, prompt.prefix_digest(count), prefix)

    def of(self, account: str, request: Request, endpoint: Endpoint, now_s: float) -> CachedPrefix | None:
        """Return what a request surely reads from an endpoint's cache if it is sent soon; None if nothing.

        Args:
            account: Whose calls count.
            request: As read.
            endpoint: Where.
            now_s: Now, monotonic.
        """
        prompt = request.prompt
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        known = self._prefixes.longest(fields, prompt, len(prompt.messages))
        if known is None:
            return None
        prefix = known[1]
        return prefix if prefix.tokens and now_s <= prefix.until_s and _is_read(request, endpoint, prefix) else None


def _is_read(request: Request, endpoint: Endpoint, prefix: CachedPrefix) -> bool:
    """Whether a request asks its provider to look for this prefix."""
    if not endpoint.model.startswith(WRITES_ON_REQUEST):
        return True
    if not request.prompt.cache_control:
        return False
    if prefix.marked_count == 0:  # the marks are in other fields, which are the same
        return True
    mark = min([count for count in _marks(request) if count >= prefix.marked_count], default=None)
    between = request.prompt.messages[prefix.marked_count : mark]
    return mark is not None and sum([message.wrap_count for message in between]) <= LOOK_BACK_BLOCKS


def _marks(request: Request) -> list[int]:
    """The places of the marks: how many messages come before each. A mark of the whole request is behind the last message."""
    messages = request.prompt.messages
    marks = [count for count, each in enumerate(messages, 1) if each.more is not None and each.more.cache_control]
    return [*marks, len(messages)] if "cache_control" in request.fields else marks
