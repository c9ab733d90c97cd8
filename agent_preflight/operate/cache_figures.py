"""Sums the cache figures in the cost lines of a run, by trial, model, conversation and reason of a miss. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Self

import msgspec
from msgspec.structs import asdict, replace

from agent_preflight.artifacts import number
from agent_preflight.base.usd import pusd, usd

Line = Mapping[str, Any]

WHY = {
    "first_call": "the first call of its conversation: there was nothing to read",
    "beside": "sent before an earlier call of its conversation had ended: send one call ahead of many",
    "tools": "the tools changed, and they come first in a prompt: keep them, and their order, as they are",
    "system": "the system text changed: keep times, counters and budgets out of it",
    "field": "a field that shapes the prompt changed: keep it for the whole conversation",
    "message": "an earlier message changed or went away: only add at the end",
    "below_minimum": "the prompt, or what was marked of it, is shorter than the model caches",
    "no_marks": "this family caches what cache_control marks, and nothing was marked",
    "endpoint": "another endpoint served it, which has a cache of its own",
    "expired": "the cache was older than it surely lives: call sooner, or ask for a longer life",
    "no_cache": "the endpoint that served has no price for cached tokens",
    "unexplained": "the prompt only grew, and the cache was young: the provider did not read it",
}
"""Why a cache misses, by the first word of a line's `cache_miss`, and what to do about it."""


class CacheSums(msgspec.Struct, frozen=True):
    """Sums over calls.

    Attributes:
        hits: calls that read from a cache.
        saved_usd: what caching saved, minus what writing cost above plain tokens.
        unpriced: calls whose saving is not known.
    """

    calls: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    saved_usd: Decimal = Decimal(0)
    unpriced: int = 0

    @property
    def hit_rate(self) -> float:
        """Cached tokens as a fraction of all prompt tokens; 0.0 if there are none."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __add__(self, other: Self) -> Self:
        return replace(self, **{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def to_json(self) -> dict[str, Any]:
        """Return the sums for machines; `saved_usd` as exact decimal text."""
        return {**asdict(self), "saved_usd": format(self.saved_usd, "f"), "hit_rate": round(self.hit_rate, 4)}


class CacheView(msgspec.Struct, frozen=True):
    """Caching in a run.

    Attributes:
        total: all calls.
        accounts: by trial; the longest prompts first.
        models: by model.
        conversations: by trial, conversation and model; the longest prompts first.
        misses: calls and prompt tokens by trial, conversation and reason.
    """

    total: CacheSums
    accounts: Mapping[tuple[str], CacheSums]
    models: Mapping[tuple[str], CacheSums]
    conversations: Mapping[tuple[str, str, str], CacheSums]
    misses: Mapping[tuple[str, str, str], CacheSums]

    def misses_by_reason(self) -> dict[str, tuple[int, int]]:
        """Return calls and prompt tokens by the first word of the reason, the most tokens first."""
        reasons: dict[str, tuple[int, int]] = {}
        for (_account, _conversation, reason), sums in self.misses.items():
            calls, tokens = reasons.get(kind := reason.partition(" ")[0], (0, 0))
            reasons[kind] = (calls + sums.calls, tokens + sums.prompt_tokens)
        return dict(sorted(reasons.items(), key=lambda item: -item[1][1]))

    def misses_of(self, account: str, conversation: str) -> dict[str, int]:
        """Return the calls of one conversation by reason, the most frequent first."""
        mine = {key[2]: sums.calls for key, sums in self.misses.items() if key[:2] == (account, conversation)}
        return dict(sorted(mine.items(), key=lambda item: -item[1]))

    def to_json(self) -> dict[str, Any]:
        """Return all of it for machines."""
        return {
            "total": self.total.to_json(),
            "models": [{"model": model, **sums.to_json()} for (model,), sums in self.models.items()],
            "conversations": [
                {
                    "account": account,
                    "conversation": conversation or None,
                    "model": model,
                    **sums.to_json(),
                    "misses": self.misses_of(account, conversation),
                }
                for (account, conversation, model), sums in self.conversations.items()
            ],
            "misses": [
                {"reason": reason, "calls": calls, "prompt_tokens": tokens, "meaning": WHY.get(reason, "")}
                for reason, (calls, tokens) in self.misses_by_reason().items()
            ],
        }


def cache_view(lines: Iterable[Line]) -> CacheView | None:
    """Return the cache figures of cost lines; None if no call among them has prompt tokens."""
    counted = [line for line in lines if number(line.get("prompt_tokens")) > 0]
    if not counted:
        return None
    missed = [line for line in counted if line.get("cache_miss")]
    return CacheView(
        total=_sums(counted),
        accounts=_grouped(counted, "account"),
        models=_grouped(counted, "model"),
        conversations=_grouped(counted, "account", "conversation", "model"),
        misses=_grouped(missed, "account", "conversation", "cache_miss"),
    )


def _grouped(lines: Sequence[Line], *names: str) -> dict[Any, CacheSums]:
    """Return the sums of lines that have the same text in these fields, by these texts; the most prompt tokens first."""
    groups: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for line in lines:
        groups[tuple(str(line.get(name) or "") for name in names)].append(line)
    sums = {texts: _sums(group) for texts, group in groups.items()}
    return dict(sorted(sums.items(), key=lambda item: -item[1].prompt_tokens))


def _sums(lines: Sequence[Line]) -> CacheSums:
    saved = [_saved_pusd(line.get("cache_saved_usd")) for line in lines]
    prompt, cached, written = (
        sum(int(number(line.get(name))) for line in lines)
        for name in ("prompt_tokens", "cached_tokens", "cache_write_tokens")
    )
    return CacheSums(
        calls=len(lines),
        hits=sum(number(line.get("cached_tokens")) > 0 for line in lines),
        prompt_tokens=prompt,
        cached_tokens=cached,
        cache_write_tokens=written,
        saved_usd=usd(sum(each for each in saved if each is not None)),
        unpriced=saved.count(None),
    )


def _saved_pusd(text: object) -> int | None:
    """Return a line's saving; None if it is missing or cannot be read."""
    try:
        return pusd(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
