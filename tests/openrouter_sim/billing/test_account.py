"""The account and its bill, with figures computed by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import pytest

from openrouter_sim.billing.account import Bill, KeyBill, SimAccount, SimGeneration, SimKey, days_of, hash_of
from openrouter_sim.billing.prices import SimTokens
from tests.support.cases import each

if TYPE_CHECKING:
    from tests.support.fake_clock import FakeClock


def generation(key: SimKey, cost: str, *, upstream: str | None = None, name: str = "gen-1") -> SimGeneration:
    return SimGeneration(
        id=name,
        key_hash=key.hash,
        model="m",
        provider="P",
        tag="p",
        api="chat",
        streamed=False,
        tokens=SimTokens(prompt=10, completion=5),
        cost_usd=Decimal(cost),
        reported_usd=Decimal(cost),
        upstream_usd=None if upstream is None else Decimal(upstream),
        cache_discount_usd=Decimal(0),
        finish_reason="stop",
        outcome="finished",
        created_s=0.0,
        visible_s=0.0,
    )


def opened(clock: FakeClock) -> tuple[SimAccount, SimKey]:
    account = SimAccount(clock.epoch_s, Random(0), Decimal(10))
    return account, account.add_key(account.new_secret(), "run")


def test_sums_are_exact(clock: FakeClock) -> None:
    account, key = opened(clock)
    for i in range(1000):
        account.post(generation(key, "0.0000000001", name=f"gen-{i}"))
    assert account.bill().total_usd == Decimal("0.0000001")
    assert account.bill().keys[key.hash].total_usd == key.spend.total == Decimal("0.0000001")
    assert account.credit_left == Decimal("9.9999999")


def test_a_key_is_known_by_the_hash_of_its_whole_string(clock: FakeClock) -> None:
    account, _ = opened(clock)
    secret = account.new_secret()
    assert len(secret) == len("sk-or-v1-") + 64
    assert account.add_key(secret, "x").hash == hash_of(secret)
    assert account.find("sk-or-v1-unknown") is None


def test_counters_lag_behind_the_bill(clock: FakeClock) -> None:
    account, key = opened(clock)
    account.post(generation(key, "1.5"), lag_s=30)
    assert account.bill().total_usd == Decimal("1.5")
    assert key.spend.total == 0
    clock.advance(30)
    account.now()
    assert key.spend.total == Decimal("1.5")
    assert account.credit_left == Decimal("8.5")


def test_a_late_charge_enters_the_bill_when_it_is_due(clock: FakeClock) -> None:
    account, key = opened(clock)
    account.post(generation(key, "2"), late_s=5)
    assert account.bill().total_usd == 0
    assert "gen-1" not in account.generations
    clock.advance(5)
    assert account.bill().total_usd == 2


def test_counters_lag_behind_a_late_charge(clock: FakeClock) -> None:
    account, key = opened(clock)
    account.post(generation(key, "2"), late_s=5, lag_s=30)
    clock.advance(5)
    assert account.bill().total_usd == 2
    assert key.spend.total == 0
    clock.advance(30)
    account.now()
    assert key.spend.total == 2


def test_windows_begin_at_midnight_utc_and_weeks_on_monday(clock: FakeClock) -> None:
    account, key = opened(clock)
    for day, cost in ((28, "1"), (30, "2"), (31, "4")):  # Thursday, Saturday, Sunday
        clock.advance(datetime(2026, 5, day, 12, tzinfo=UTC).timestamp() - clock.epoch_s())
        account.post(generation(key, cost))
    sunday = account.today()
    assert [key.spend.within(w, sunday) for w in ("daily", "weekly", "monthly", None)] == [4, 7, 7, 7]
    clock.advance(43200)
    monday = account.today()
    assert [key.spend.within(w, monday) for w in ("daily", "weekly", "monthly", None)] == [0, 0, 0, 7]
    key.limit, key.limit_reset = Decimal(5), "weekly"
    assert [key.remaining(day) for day in (sunday, monday)] == [Decimal(-2), Decimal(5)]


def test_the_providers_own_bill_counts_only_where_the_key_says_so(clock: FakeClock) -> None:
    account, key = opened(clock)
    key.limit = Decimal(3)
    account.post(generation(key, "0.1", upstream="2"))
    assert key.remaining(account.today()) == Decimal("2.9")
    key.include_byok_in_limit = True
    assert key.remaining(account.today()) == Decimal("0.9")


def bill() -> Bill:
    generation = SimGeneration(
        id="gen-1",
        key_hash="h",
        model="m",
        provider="P",
        tag="p",
        api="chat",
        streamed=True,
        tokens=SimTokens(prompt=10, cached=4, write_5m=2, write_1h=1, completion=5, reasoning=3),
        cost_usd=Decimal("1.60E-7"),
        reported_usd=Decimal(0),
        upstream_usd=None,
        cache_discount_usd=Decimal(0),
        finish_reason="stop",
        outcome="finished",
        created_s=0.0,
        visible_s=None,
    )
    return Bill(Decimal("1.60E-7"), {"h": KeyBill("run", Decimal("1.60E-7"), False, (generation,))})


def test_amounts_are_plain_decimal_text_and_cache_writes_are_one_number() -> None:
    shown = bill().to_json()
    assert shown["total_usd"] == shown["keys"]["h"]["total_usd"] == "0.00000016"
    row = shown["keys"]["h"]["generations"][0]
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (10, 4, 3)
    assert (row["completion_tokens"], row["reasoning_tokens"], row["cost_usd"]) == (5, 3, "0.00000016")


def test_a_summary_leaves_the_generations_out() -> None:
    assert bill().to_json(summary=True)["keys"]["h"] == {"name": "run", "total_usd": "0.00000016", "deleted": False}


def test_a_key_is_found_by_name() -> None:
    assert bill().named("run").generations[0].completion_tokens == 5
    with pytest.raises(KeyError):
        bill().named("other")


@each(
    "window, first, following",
    [
        ("daily", date(2026, 12, 30), date(2026, 12, 31)),
        ("weekly", date(2026, 12, 28), date(2027, 1, 4)),
        ("monthly", date(2026, 12, 1), date(2027, 1, 1)),
    ],
)
def test_windows_begin_on_a_day(window: str, first: date, following: date) -> None:
    assert days_of(window, date(2026, 12, 30)) == (first, following)
    assert days_of(None, date(2026, 12, 30)) is None
