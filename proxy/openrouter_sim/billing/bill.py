"""The simulator's bill, which tests compare the proxy's ledger with."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openrouter_sim.base.jsonio import JsonObject, plain
from openrouter_sim.billing.prices import SimTokens


@dataclass(slots=True)
class SimGeneration:
    """OpenRouter's record of one settled call.

    Attributes:
        cost_usd: The charge.
        reported_usd: The charge that `/generation` states.
        upstream_usd: The provider's bill, if the caller used an own provider key.
        outcome: `finished`, `cancelled`, `error` or `cache_hit`.
        created_s: Epoch second of the request.
        visible_s: Epoch second from which `/generation` finds it; None for never.
        faults: Names of the call's faults.
    """

    id: str
    key_hash: str
    model: str
    provider: str
    tag: str
    api: str
    streamed: bool
    tokens: SimTokens
    cost_usd: Decimal
    reported_usd: Decimal
    upstream_usd: Decimal | None
    cache_discount_usd: Decimal
    finish_reason: str | None
    outcome: str
    created_s: float
    visible_s: float | None
    faults: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """All prompt tokens, with those read from a cache and written to one."""
        return self.tokens.prompt

    @property
    def completion_tokens(self) -> int:
        """All generated tokens, with reasoning."""
        return self.tokens.completion

    def to_json(self) -> JsonObject:
        """Return the row of `GET /sim/bill`."""
        return {
            "id": self.id,
            "model": self.model,
            "provider": self.provider,
            "tag": self.tag,
            "cost_usd": plain(self.cost_usd),
            "api": self.api,
            "prompt_tokens": self.tokens.prompt,
            "cached_tokens": self.tokens.cached,
            "cache_write_tokens": self.tokens.written,
            "completion_tokens": self.tokens.completion,
            "reasoning_tokens": self.tokens.reasoning,
            "streamed": self.streamed,
            "outcome": self.outcome,
            "faults": list(self.faults),
        }


@dataclass(frozen=True, slots=True)
class KeyBill:
    """The charges of one key; `total_usd` is the exact sum of its generations."""

    name: str
    total_usd: Decimal
    deleted: bool
    generations: tuple[SimGeneration, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """The charges of the account, by key hash."""

    total_usd: Decimal
    keys: dict[str, KeyBill]

    def named(self, name: str) -> KeyBill:
        """Return the bill of the first key of that name.

        Raises:
            KeyError: no key has it.
        """
        for key in self.keys.values():
            if key.name == name:
                return key
        raise KeyError(name)

    def to_json(self, *, summary: bool = False) -> JsonObject:
        """Return the body of `GET /sim/bill`; a summary leaves the generations out."""
        keys = {key_hash: _key_json(key, summary) for key_hash, key in self.keys.items()}
        return {"total_usd": plain(self.total_usd), "keys": keys}


def _key_json(key: KeyBill, summary: bool) -> JsonObject:
    shown: JsonObject = {"name": key.name, "total_usd": plain(key.total_usd), "deleted": key.deleted}
    if not summary:
        shown["generations"] = [generation.to_json() for generation in key.generations]
    return shown
