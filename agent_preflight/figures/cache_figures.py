"""What caching did for the calls of a run: sums by trial, model, conversation and reason of a miss. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from agent_preflight.base.usd import exact
from agent_preflight.runs.call import Call

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
"""Why a cache misses, by the first word of a call's `cache_miss`, and what to do about it."""


class CacheSums(msgspec.Struct, frozen=True):
    """Sums over calls.

    Attributes:
        hits: calls that read from a cache.
        saved_pusd: what caching saved, minus what writing cost above plain tokens; negative if it cost more.
        unpriced: calls whose saving is not known; `saved_pusd` lacks them.
    """

    calls: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    saved_pusd: int = 0
    unpriced: int = 0

    @property
    def hit_rate(self) -> float:
        """Cached tokens as a fraction of all prompt tokens; 0.0 if there are none."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __add__(self, other: CacheSums) -> CacheSums:
        return replace(self, **{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def to_json(self) -> dict[str, Any]:
        """Return the sums for machines; `saved_usd` as exact decimal text."""
        values = asdict(self)
        del values["saved_pusd"]
        return {**values, "saved_usd": exact(self.saved_pusd), "hit_rate": round(self.hit_rate, 4)}


class CacheView(msgspec.Struct, frozen=True):
    """Caching in the calls that have prompt tokens.

    Attributes:
        total: all of them.
        accounts: by trial; the longest prompts first.
        models: by the model that served; the longest prompts first.
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


def cache_view(calls: Iterable[Call]) -> CacheView | None:
    """Return what caching did for calls; None if none of them has prompt tokens."""
    groups: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in calls:
        if call.prompt_tokens:
            groups[call.trial, call.conversation or "", call.model, call.cache_miss or ""].append(call)
    if not groups:
        return None
    sums = {key: _sums(group) for key, group in groups.items()}
    return CacheView(
        total=reduce(add, sums.values()),
        accounts=_added(sums, 0),
        models=_added(sums, 2),
        conversations=_added(sums, 0, 1, 2),
        misses=_added({key: each for key, each in sums.items() if key[3]}, 0, 1, 3),
    )


def _added(sums: Mapping[tuple[str, ...], CacheSums], *places: int) -> dict[Any, CacheSums]:
    """Return the sums of those whose keys are the same in these places, by that part; the most prompt tokens first."""
    added: dict[tuple[str, ...], CacheSums] = defaultdict(CacheSums)
    for key, each in sums.items():
        added[tuple(key[place] for place in places)] += each
    return dict(sorted(added.items(), key=lambda item: -item[1].prompt_tokens))


def _sums(calls: Sequence[Call]) -> CacheSums:
    saved = [call.cache_saved_pusd for call in calls]
    return CacheSums(
        calls=len(calls),
        hits=sum(call.cached_tokens > 0 for call in calls),
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        cache_write_tokens=sum(call.cache_write_tokens for call in calls),
        saved_pusd=sum(each for each in saved if each is not None),
        unpriced=saved.count(None),
    )
