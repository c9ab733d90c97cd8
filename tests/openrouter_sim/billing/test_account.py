"""The books, with figures computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from openrouter_sim.billing.account import Books, Key, hash_of
from openrouter_sim.billing.bill import Generation
from openrouter_sim.billing.prices import Tokens

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Clock


def generation(key: Key, cost: str, *, upstream: str | None = None, name: str = "gen-1") -> Generation:
    return Generation(
        id=name,
        key_hash=key.hash,
        model="m",
        provider="P",
        tag="p",
        api="chat",
        streamed=False,
        tokens=Tokens(prompt=10, completion=5),
        cost_usd=Decimal(cost),
        reported_usd=Decimal(cost),
        upstream_usd=None if upstream is None else Decimal(upstream),
        cache_discount_usd=Decimal(0),
        finish_reason="stop",
        outcome="finished",
        created_s=0.0,
        visible_s=0.0,
    )


def opened(clock: Clock) -> tuple[Books, Key]:
    books = Books(clock, Random(0), Decimal(10))
    return books, books.add_key(books.new_secret(), "run")


def test_sums_are_exact(clock: Clock) -> None:
    books, key = opened(clock)
    for i in range(1000):
        books.post(generation(key, "0.0000000001", name=f"gen-{i}"))
    assert books.bill().total_usd == Decimal("0.0000001")
    assert books.bill().keys[key.hash].total_usd == key.spend.total == Decimal("0.0000001")
    assert books.credit_left == Decimal("9.9999999")


def test_a_key_is_known_by_the_hash_of_its_whole_string(clock: Clock) -> None:
    books, _ = opened(clock)
    secret = books.new_secret()
    assert len(secret) == len("sk-or-v1-") + 64
    assert books.add_key(secret, "x").hash == hash_of(secret)
    assert books.find("sk-or-v1-unknown") is None


def test_counters_lag_behind_the_bill(clock: Clock) -> None:
    books, key = opened(clock)
    books.post(generation(key, "1.5"), lag_s=30)
    assert books.bill().total_usd == Decimal("1.5")
    assert key.spend.total == 0
    clock.now_s += 30
    books.now()
    assert key.spend.total == Decimal("1.5")
    assert books.credit_left == Decimal("8.5")


def test_a_late_charge_enters_the_bill_when_it_is_due(clock: Clock) -> None:
    books, key = opened(clock)
    books.post(generation(key, "2"), late_s=5)
    assert books.bill().total_usd == 0
    assert "gen-1" not in books.generations
    clock.now_s += 5
    assert books.bill().total_usd == 2


def test_windows_begin_at_midnight_utc_and_weeks_on_monday(clock: Clock) -> None:
    books, key = opened(clock)
    for day, cost in ((28, "1"), (30, "2"), (31, "4")):  # Thursday, Saturday, Sunday
        clock.now_s = datetime(2026, 5, day, 12, tzinfo=UTC).timestamp()
        books.post(generation(key, cost))
    sunday = books.today()
    assert [key.spend.within(w, sunday) for w in ("daily", "weekly", "monthly", None)] == [4, 7, 7, 7]
    clock.now_s += 43200
    monday = books.today()
    assert [key.spend.within(w, monday) for w in ("daily", "weekly", "monthly", None)] == [0, 0, 0, 7]
    key.limit, key.limit_reset = Decimal(5), "weekly"
    assert [key.remaining(day) for day in (sunday, monday)] == [Decimal(-2), Decimal(5)]


def test_the_providers_own_bill_counts_only_where_the_key_says_so(clock: Clock) -> None:
    books, key = opened(clock)
    key.limit = Decimal(3)
    books.post(generation(key, "0.1", upstream="2"))
    assert key.remaining(books.today()) == Decimal("2.9")
    key.include_byok_in_limit = True
    assert key.remaining(books.today()) == Decimal("0.9")
