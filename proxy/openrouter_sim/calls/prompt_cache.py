"""The providers' prompt caches: the prefixes of each key, and when they expire.

An explicit cache (Anthropic) writes up to the marks of the request and reads the longest stored prefix. An automatic
cache (OpenAI and others) stores every prefix and reads in steps of 128 tokens.

Source: openrouter.ai/docs/guides/best-practices/prompt-caching, 2026.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from openrouter_sim.catalog.models import CacheMode, SimEndpoint, SimModel

FIVE_MINUTES_S = 300.0
HOUR_S = 3600.0
STICKY_S = 600.0
STEP_TOKENS = 128
PREFIXES_MAX = 200_000
"""With more stored prefixes than this, expired ones are removed."""


class Segment(msgspec.Struct, frozen=True):
    """A piece of the prompt. `mark` is the lifetime of the cache breakpoint at its end."""

    text: str
    tokens: int
    mark: str | None = None


class CacheUse(msgspec.Struct, frozen=True):
    """How many prompt tokens were read from the cache, and written to it by lifetime."""

    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0


class PromptCache:
    """All caches of all providers. A key never reads what another key wrote."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, ...], float] = {}
        self._sticky: dict[tuple[str, ...], tuple[str, float]] = {}

    def use(
        self, owner: str, model: SimModel, endpoint: SimEndpoint, segments: Sequence[Segment], now: float
    ) -> CacheUse:
        """Store this prompt; return what it reads and writes."""
        self._forget(now)
        if model.cache_mode is CacheMode.NONE or not segments:
            return CacheUse()
        ends = list(accumulate(segment.tokens for segment in segments))
        if ends[-1] < model.cache_min_tokens:
            return CacheUse()
        names: list[tuple[str, ...]] = [(owner, model.id, endpoint.tag, digest) for digest in _chain(segments)]
        if model.cache_mode is CacheMode.AUTOMATIC:
            used = self._automatic(model, names, ends, now)
        else:
            used = self._explicit(model, names, ends, segments, now)
        if used != CacheUse():
            self._sticky[owner, model.id, _preamble(segments)] = (endpoint.tag, now + STICKY_S)
        return used

    def sticky_tag(self, owner: str, model: SimModel, segments: Sequence[Segment], now: float) -> str | None:
        """Return the endpoint that has this conversation's cache, for ten minutes after its last use."""
        tag, until = self._sticky.get((owner, model.id, _preamble(segments)), (None, 0.0))
        return tag if until > now else None

    def _automatic(self, model: SimModel, names: list[tuple[str, ...]], ends: list[int], now: float) -> CacheUse:
        known = self._longest(names, ends, now)
        cached = known // STEP_TOKENS * STEP_TOKENS if known >= model.cache_min_tokens else 0
        for name in names:
            self._until[name] = now + FIVE_MINUTES_S
        return CacheUse(cached)

    def _explicit(
        self, model: SimModel, names: list[tuple[str, ...]], ends: list[int], segments: Sequence[Segment], now: float
    ) -> CacheUse:
        marks = [i for i, segment in enumerate(segments) if segment.mark and ends[i] >= model.cache_min_tokens]
        if not marks:
            return CacheUse()
        last = marks[-1] + 1
        cached = self._longest(names[:last], ends[:last], now)
        written = {"5m": 0, "1h": 0}
        done = cached
        for i in marks:
            lifetime = "1h" if segments[i].mark == "1h" else "5m"
            written[lifetime] += max(0, ends[i] - done)
            done = max(done, ends[i])
            self._until[names[i]] = now + (HOUR_S if lifetime == "1h" else FIVE_MINUTES_S)
        return CacheUse(cached, written["5m"], written["1h"])

    def _forget(self, now: float) -> None:
        if len(self._until) > PREFIXES_MAX:
            self._until = {name: until for name, until in self._until.items() if until > now}
            self._sticky = {name: (tag, until) for name, (tag, until) in self._sticky.items() if until > now}

    def _longest(self, names: list[tuple[str, ...]], ends: list[int], now: float) -> int:
        for name, end in zip(reversed(names), reversed(ends), strict=True):
            if self._until.get(name, 0.0) > now:
                return end
        return 0


def _chain(segments: Sequence[Segment]) -> list[str]:
    digest = hashlib.blake2b(digest_size=16)
    chain = []
    for segment in segments:
        digest.update(segment.text.encode("utf-8", "surrogatepass") + b"\0")
        chain.append(digest.hexdigest())
    return chain


def _preamble(segments: Sequence[Segment]) -> str:
    return _chain(segments[:2])[-1] if segments else ""
