"""Calls that wait: who may try when others settle."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from preflight_proxy.core.admission.queue import HEAD_BLOCK_S
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger import waiting
from preflight_proxy.ledger.waiting import WaitingCalls
from tests.support.fake_clock import FakeClock


class Purse:
    """An account whose money calls take by trying."""

    def __init__(self, limit_pusd: int) -> None:
        self.account = Account(id="a", run="r", limit_pusd=limit_pusd, pending_pusd=limit_pusd)
        self.clock = FakeClock()
        self.waiting_calls = WaitingCalls(lambda _id: self.account, self.clock)
        self.served: list[str] = []

    def wait(self, name: str, needs_pusd: int, until_s: float = 1e9) -> asyncio.Future[bool]:
        def attempt() -> bool:
            if self.account.frozen is None and self.account.available_pusd < needs_pusd:
                return False
            self.account = replace(self.account, pending_pusd=self.account.pending_pusd + needs_pusd)
            self.served.append(name)
            self.waiting_calls.wake("a")  # as a commit does; it must not serve anybody twice
            return True

        return asyncio.ensure_future(self.waiting_calls.wait("a", name, needs_pusd, attempt, until_s))

    def settle(self, freed_pusd: int) -> None:
        self.account = replace(self.account, pending_pusd=self.account.pending_pusd - freed_pusd)
        self.waiting_calls.wake("a")


async def test_first_come_is_first_served() -> None:
    purse = Purse(100)
    calls = [purse.wait(name, 40) for name in ("first", "second", "third")]
    await asyncio.sleep(0)
    purse.settle(80)
    assert purse.served == ["first", "second"]
    purse.settle(40)
    assert await asyncio.gather(*calls) == [True, True, True]
    assert purse.served == ["first", "second", "third"]
    assert not purse.waiting_calls.has("a")


async def test_a_small_call_does_not_pass_a_large_one_at_once() -> None:
    purse = Purse(100)
    large, small = purse.wait("large", 90), purse.wait("small", 10)
    await asyncio.sleep(0)
    purse.settle(20)
    assert purse.served == []
    purse.settle(80)
    await asyncio.gather(large, small)
    assert purse.served == ["large", "small"]


async def test_a_call_that_fits_passes_the_first_one_after_a_time_though_nothing_settles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "WAITING_LOOK_S", 0.01)
    purse = Purse(100)
    large, small = purse.wait("large", 90), purse.wait("small", 10)
    await asyncio.sleep(0)
    purse.settle(20)
    assert purse.served == []
    purse.clock.advance(HEAD_BLOCK_S + 1)
    assert await small
    assert purse.served == ["small"]
    large.cancel()


async def test_a_call_passes_the_first_one_that_something_else_than_money_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As its exposure does (M24)."""
    monkeypatch.setattr(waiting, "WAITING_LOOK_S", 0.01)
    purse = Purse(100)
    exposed = asyncio.ensure_future(purse.waiting_calls.wait("a", "exposed", 20, lambda: False, 1e9))
    await asyncio.sleep(0)
    small = purse.wait("small", 10)
    await asyncio.sleep(0)
    purse.settle(50)
    assert purse.served == []
    purse.clock.advance(HEAD_BLOCK_S + 1)
    async with asyncio.timeout(20):
        assert await small
    assert purse.served == ["small"]
    exposed.cancel()


async def test_a_waiter_that_is_cancelled_leaves_the_line_at_once() -> None:
    purse = Purse(100)
    gone, next_one = purse.wait("gone", 90), purse.wait("next", 10)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    purse.settle(10)
    assert await next_one
    assert purse.served == ["next"]


async def test_a_freeze_wakes_them_all() -> None:
    purse = Purse(100)
    calls = [purse.wait(name, 40) for name in ("one", "two")]
    await asyncio.sleep(0)
    purse.account = replace(purse.account, frozen_reason="stopped")
    purse.waiting_calls.wake("a")
    assert await asyncio.gather(*calls) == [True, True]


async def test_who_has_waited_long_enough_is_told_so() -> None:
    purse = Purse(100)
    assert not await purse.wait("late", 40, until_s=-1.0)
    assert not purse.waiting_calls.has("a")


async def test_what_an_attempt_raises_is_for_its_own_caller_and_not_for_who_woke_it() -> None:
    purse = Purse(100)

    def fails() -> bool:
        raise LedgerError("the disk is full")

    failing = asyncio.ensure_future(purse.waiting_calls.wait("a", "failing", 40, fails, 1e9))
    served = purse.wait("next", 40)
    await asyncio.sleep(0)
    purse.settle(40)
    with pytest.raises(LedgerError):
        await failing
    assert await served
    assert not purse.waiting_calls.has("a")
