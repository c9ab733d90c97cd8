"""The store and what follows each of its commits."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.core.ledger.commands import Freeze, OpenAccount, Post, Reserve
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.core.refusals.outcomes import LEFT
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.store import Store
from tests.support.fake_clock import FakeClock

DOLLAR = 10**12


def opened(folder: Path, now_s: float = 0.0) -> Ledger:
    clock = FakeClock()
    clock.advance(now_s)
    store = Store(folder / "ledger.sqlite3", clock=clock)
    return Ledger(store, Files(store.cost_log), Events(), clock)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = opened(tmp_path)
    made.commit(OpenAccount(account="a", run="r", limit_pusd=DOLLAR, token_hash="hash"))
    yield made
    made.close()
    made.store.close()


def call(ledger: Ledger, reservation_id: str, cost_pusd: int, **facts: int) -> None:
    ledger.commit(Reserve(reservation_id, "a", DOLLAR // 2, "chat", "m", ("t",), 100))
    ledger.commit(Post(reservation_id, cost_pusd, CallFacts(model="m", **facts)))  # type: ignore[arg-type]


def test_a_posted_call_is_in_the_cost_log_and_in_the_totals(ledger: Ledger, tmp_path: Path) -> None:
    call(ledger, "one", 1000, prompt_tokens=50, cached_tokens=10, completion_tokens=5)
    ledger.close()
    line = json.loads((tmp_path / "costs.jsonl").read_text())
    assert line["cost_usd"] == "0.000000001"
    balance = ledger.balance("a")
    assert (balance.prompt_tokens, balance.cached_tokens, balance.cache_hit_requests) == (50, 10, 1)
    assert balance.posted_pusd == 1000


def test_the_totals_are_there_again_after_a_restart(ledger: Ledger, tmp_path: Path) -> None:
    call(ledger, "one", 1000, prompt_tokens=50, completion_tokens=5)
    ledger.store.close()
    again = opened(tmp_path)
    assert again.balance("a").completion_tokens == 5
    assert again.sessions.by_token("hash") == "a"
    again.store.close()


def test_an_account_is_spent_once_a_call_was_refused_and_not_even_the_cheapest_would_fit(ledger: Ledger) -> None:
    ledger.account_state("a").admitted(DOLLAR // 4)
    call(ledger, "one", DOLLAR // 2)
    call(ledger, "two", DOLLAR // 2 - 1)
    assert not ledger.spent("a"), "the next call may be cheaper than the first quote said"
    ledger.note_refusal("a", Code.DOES_NOT_FIT, "m")
    assert ledger.spent("a")
    ledger.forgive("a")
    assert not ledger.spent("a")


async def test_why_a_call_was_not_served_is_counted_and_told(ledger: Ledger) -> None:
    ledger.note_refusal("a", Code.SPENT, "m/x")
    ledger.note_bad_request("a", "no such field")
    ledger.note_unserved("a", LEFT)
    ledger.note_served("a", overtaken=True)
    account = ledger.account("a")
    assert [cause.code for cause in account.outcomes.causes] == ["spent", "bad_request", "left"]
    assert (account.refused, account.outcomes.served, ledger.account_state("a").budget_refusals) == (2, 1, 1)
    follower = ledger.events.follow(0, 0.01)
    events = [event async for event in stop_at_silence(follower)]
    assert [(event.type, event.code, event.text) for event in events] == [
        ("refused", "spent", Code.SPENT.sentence),
        ("refused", "bad_request", "no such field"),
        ("unserved", "left", LEFT.text),
    ]
    await follower.aclose()


async def stop_at_silence(follower: AsyncGenerator[LedgerEvent | None, None]) -> AsyncGenerator[LedgerEvent, None]:
    """The events that are there."""
    async for event in follower:
        if event is None:
            return
        yield event


def test_an_account_without_a_cent_left_is_spent(ledger: Ledger) -> None:
    call(ledger, "one", DOLLAR // 2)
    call(ledger, "two", DOLLAR // 2)
    assert ledger.spent("a")


async def test_followers_hear_with_the_balance_of_the_moment(ledger: Ledger) -> None:
    ledger.commit(Freeze("a", "stopped"))
    ledger.publish("frozen", "a", reason="stopped")
    follower = ledger.events.follow(0, 0.01)
    event = await anext(follower)
    assert event is not None
    assert event.balance is not None
    assert (event.type, event.balance.frozen) == ("frozen", "stopped")
    await follower.aclose()


async def test_of_two_balances_the_later_one_says_so_after_a_restart_too(ledger: Ledger, tmp_path: Path) -> None:
    ledger.publish("opened", "a")
    follower = ledger.events.follow(0, 0.01)
    event = await anext(follower)
    await follower.aclose()
    assert event is not None
    assert event.balance is not None
    order = [event.balance.as_of, *(ledger.balance("a").as_of for _ in range(3))]
    ledger.store.close()
    again = opened(tmp_path, now_s=1.0)
    order.append(again.balance("a").as_of)
    again.store.close()
    assert order == sorted(set(order))


def test_an_overrun_is_told_to_who_watches_endpoints(ledger: Ledger) -> None:
    seen: list[str] = []
    ledger.on_quarantined = lambda row: seen.append(row.tag)
    call(ledger, "one", DOLLAR // 2 + 1)
    assert seen == ["t"]


def test_an_account_that_is_opened_with_another_token_is_reached_by_that_one_alone(ledger: Ledger) -> None:
    ledger.commit(OpenAccount(account="a", run="r", limit_pusd=DOLLAR, token_hash="other"))
    assert ledger.sessions.by_token("other") == "a"
    assert ledger.sessions.by_token("hash") is None


@pytest.mark.parametrize(("ended", "counts_after_s"), [(True, 10.0), (False, 1800.0)])
def test_silence_about_a_call_counts_only_once_it_has_surely_ended(
    ledger: Ledger, ended: bool, counts_after_s: float
) -> None:
    """A generation whose end nobody saw may go on and be billed: a minute's silence proves nothing about it (M13)."""
    reserved = ledger.commit(Reserve("one", "a", DOLLAR // 2, "chat", "m", ("t",), 100))
    assert isinstance(reserved, Change)
    assert reserved.reservation is not None
    clock = ledger.clock
    assert isinstance(clock, FakeClock)
    clock.advance(10)
    ledger.mark_unknown(reserved.reservation, CallFacts(), ended=ended)
    (pending,) = ledger.store.pending("a")
    assert pending.unknown_since_s == reserved.reservation.created_at_s + counts_after_s


def test_no_balance_is_built_for_an_event_before_anyone_has_followed(ledger: Ledger) -> None:
    """A stand-alone proxy without a follower pays nothing for events."""
    ledger.events = Events(wanted=False)
    before = ledger.balance("a").as_of
    ledger.publish("settled", "a")
    assert ledger.balance("a").as_of == before + 1
    ledger.events.follow(0, 1.0)
    ledger.publish("settled", "a")
    assert ledger.balance("a").as_of == before + 3
