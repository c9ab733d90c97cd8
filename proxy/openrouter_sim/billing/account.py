"""The account at OpenRouter: its keys, credit and generations, in exact Decimal.

A charge is in the bill when it is due. A lag later it is in the counters that the API shows and checks limits against.
Both wait in a queue that each look at the clock works off, so no timer is needed.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

from openrouter_sim.billing.bill import Bill, KeyBill, SimGeneration
from openrouter_sim.billing.prices import ZERO


@dataclass(slots=True)
class Spend:
    """Settled USD, in total and by UTC day. Windows begin at 00:00 UTC, weeks on Monday."""

    total: Decimal = ZERO
    by_day: dict[date, Decimal] = field(default_factory=dict)

    def add(self, amount: Decimal, today: date) -> None:
        """Add an amount."""
        self.total += amount
        self.by_day[today] = self.by_day.get(today, ZERO) + amount

    def since(self, first: date) -> Decimal:
        """Return the spend from that day on."""
        return sum((amount for day, amount in self.by_day.items() if day >= first), ZERO)

    def within(self, window: str | None, today: date) -> Decimal:
        """Return the spend of the current `daily`, `weekly` or `monthly` window; None: of all time."""
        match window:
            case "daily":
                return self.since(today)
            case "weekly":
                return self.since(today - timedelta(days=today.weekday()))
            case "monthly":
                return self.since(today.replace(day=1))
            case _:
                return self.total


@dataclass(slots=True)
class SimKey:
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
    spend: Spend = field(default_factory=Spend)
    byok_spend: Spend = field(default_factory=Spend)
    charged: Decimal = ZERO
    generations: list[SimGeneration] = field(default_factory=list)

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
        if late_s <= 0:
            self._charge(generation, lag_s)
            return
        self._later(late_s, lambda: self._charge(generation, lag_s))

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
        if lag_s <= 0:
            self._count(key, generation)
        else:
            self._later(lag_s, lambda: self._count(key, generation))

    def _count(self, key: SimKey, generation: SimGeneration) -> None:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        self.used_usd += generation.cost_usd
        key.spend.add(generation.cost_usd, today)
        if generation.upstream_usd is not None:
            key.byok_spend.add(generation.upstream_usd, today)

    def _later(self, wait_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._clock() + wait_s, next(self._order), act))


def hash_of(secret: str) -> str:
    """Return the hash that names a key in the management API."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
