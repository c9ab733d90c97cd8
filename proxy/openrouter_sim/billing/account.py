"""The account at OpenRouter: its keys, credit and generations, in exact Decimal; and its bill, which tests compare ledgers with.

A charge is in the bill when it is due. A lag later it is in the counters that the API shows and checks limits against.
Both wait in a queue that each look at the clock works off, so no timer is needed.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec

from openrouter_sim.base.jsonio import JsonObject, plain
from openrouter_sim.billing.prices import ZERO, SimTokens


class SimGeneration(msgspec.Struct):
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


class KeyBill(msgspec.Struct, frozen=True):
    """The charges of one key; `total_usd` is the exact sum of its generations."""

    name: str
    total_usd: Decimal
    deleted: bool
    generations: tuple[SimGeneration, ...]

    def to_json(self, *, summary: bool) -> JsonObject:
        """Return the key's part of `GET /sim/bill`."""
        shown: JsonObject = {"name": self.name, "total_usd": plain(self.total_usd), "deleted": self.deleted}
        generations = [generation.to_json() for generation in self.generations]
        return shown if summary else {**shown, "generations": generations}


class Bill(msgspec.Struct, frozen=True):
    """The charges of the account, by key hash."""

    total_usd: Decimal
    keys: dict[str, KeyBill]

    def named(self, name: str) -> KeyBill:
        """Return the bill of the first key of that name.

        Raises:
            KeyError: no key has it.
        """
        return {key.name: key for key in reversed(self.keys.values())}[name]

    def to_json(self, *, summary: bool = False) -> JsonObject:
        """Return the body of `GET /sim/bill`; a summary leaves the generations out."""
        keys = {key_hash: key.to_json(summary=summary) for key_hash, key in self.keys.items()}
        return {"total_usd": plain(self.total_usd), "keys": keys}


def days_of(window: str | None, today: date) -> tuple[date, date] | None:
    """Return the first day of the current `daily`, `weekly` or `monthly` window, and of the next; None without a window.

    Days begin at 00:00 UTC, weeks on Monday.
    """
    match window:
        case "daily":
            return today, today + timedelta(days=1)
        case "weekly":
            monday = today - timedelta(days=today.weekday())
            return monday, monday + timedelta(days=7)
        case "monthly":
            first = today.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)
        case _:
            return None


class Spend(msgspec.Struct):
    """Settled USD, in total and by UTC day."""

    total: Decimal = ZERO
    by_day: dict[date, Decimal] = msgspec.field(default_factory=dict)

    def add(self, amount: Decimal, today: date) -> None:
        """Add an amount."""
        self.total += amount
        self.by_day[today] = self.by_day.get(today, ZERO) + amount

    def within(self, window: str | None, today: date) -> Decimal:
        """Return the spend of the current `daily`, `weekly` or `monthly` window; None: of all time."""
        span = days_of(window, today)
        if span is None:
            return self.total
        return sum((amount for day, amount in self.by_day.items() if day >= span[0]), ZERO)


class SimKey(msgspec.Struct):
    """A key of the account, without its secret."""

    hash: str
    label: str
    name: str
    limit: Decimal | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False
    expires_s: float | None = None
    disabled: bool = False
    deleted: bool = False
    management: bool = False
    created_s: float = 0.0
    updated_s: float | None = None
    spend: Spend = msgspec.field(default_factory=Spend)
    byok_spend: Spend = msgspec.field(default_factory=Spend)
    charged: Decimal = ZERO
    generations: list[SimGeneration] = msgspec.field(default_factory=list)

    def spent(self, today: date) -> Decimal:
        """Return the spend that counts against the limit in the current window."""
        spent = self.spend.within(self.limit_reset, today)
        return spent + self.byok_spend.within(self.limit_reset, today) if self.include_byok_in_limit else spent

    def remaining(self, today: date) -> Decimal | None:
        """Return what is left of the limit, negative after an overshoot; None without limit."""
        return None if self.limit is None else self.limit - self.spent(today)


class SimAccount:
    """An account with its keys, its credit and every generation."""

    def __init__(self, clock: Callable[[], float], random: Random, credits_usd: Decimal) -> None:
        self.keys: dict[str, SimKey] = {}
        self.credits_usd = credits_usd
        self.used_usd = ZERO
        self.generations: dict[str, SimGeneration] = {}
        self.on_charge: Callable[[], None] = lambda: None
        self._clock = clock
        self._random = random
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Apply all charges that are due; return the epoch second."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        return now

    def today(self) -> date:
        """Return the UTC day."""
        return datetime.fromtimestamp(self.now(), UTC).date()

    @property
    def credit_left(self) -> Decimal:
        """Credit minus settled usage."""
        return self.credits_usd - self.used_usd

    def new_secret(self) -> str:
        """Return a fresh key string."""
        return f"sk-or-v1-{self._random.randbytes(32).hex()}"

    def add_key(self, secret: str, name: str, *, management: bool = False) -> SimKey:
        """Return a new key without limit; its hash is the SHA-256 of the whole string."""
        label = f"{secret[:12]}...{secret[-3:]}"
        key = SimKey(hash_of(secret), label, name, management=management, created_s=self.now())
        self.keys[key.hash] = key
        return key

    def find(self, secret: str) -> SimKey | None:
        """Return the key with this secret, also if it is deleted."""
        return self.keys.get(hash_of(secret))

    def post(self, generation: SimGeneration, *, lag_s: float = 0.0, late_s: float = 0.0) -> None:
        """Charge a generation: in the bill after `late_s`, in the counters `lag_s` later."""
        self._after(late_s, lambda: self._charge(generation, lag_s))

    def bill(self) -> Bill:
        """Return all charges so far."""
        self.now()
        keys = {
            key.hash: KeyBill(key.name, key.charged, key.deleted, tuple(key.generations))
            for key in self.keys.values()
            if not key.management
        }
        return Bill(sum((key.total_usd for key in keys.values()), ZERO), keys)

    def _charge(self, generation: SimGeneration, lag_s: float) -> None:
        key = self.keys[generation.key_hash]
        key.generations.append(generation)
        key.charged += generation.cost_usd
        self.generations[generation.id] = generation
        self.on_charge()
        self._after(lag_s, lambda: self._count(key, generation))

    def _count(self, key: SimKey, generation: SimGeneration) -> None:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        self.used_usd += generation.cost_usd
        key.spend.add(generation.cost_usd, today)
        if generation.upstream_usd is not None:
            key.byok_spend.add(generation.upstream_usd, today)

    def _after(self, wait_s: float, act: Callable[[], None]) -> None:
        if wait_s <= 0:
            act()
        else:
            heapq.heappush(self._due, (self._clock() + wait_s, next(self._order), act))


def hash_of(secret: str) -> str:
    """Return the hash that names a key in the management API."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
