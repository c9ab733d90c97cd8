"""Followers hear every event once, in order, and what they missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.ledger.events import LEDGER_EVENTS_KEPT, Events

AGES_S = 3600.0


async def take(stream: AsyncIterator[LedgerEvent | None], count: int) -> list[LedgerEvent | None]:
    """The next events of a follower."""
    async with asyncio.timeout(30):
        return [await anext(stream) for _ in range(count)]


def seqs(events: list[LedgerEvent | None]) -> list[object]:
    return [event and event.seq for event in events]


async def test_a_follower_from_the_start_gets_all_that_is_kept_and_then_the_new() -> None:
    events = Events()
    events.publish("reserved", "a", cost_pusd=10**11)
    events.publish("settled", "a")
    stream = events.follow(0, AGES_S)
    assert await take(stream, 1) == [LedgerEvent(seq=1, type="reserved", account="a", cost_pusd=10**11)]
    assert seqs(await take(stream, 1)) == [2]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    events.publish("settled", "b")
    assert seqs([await waiting]) == [3]


async def test_a_cursor_gives_what_comes_after_it() -> None:
    events = Events()
    for _ in range(5):
        events.publish("settled", "a")
    assert seqs(await take(events.follow(3, AGES_S), 2)) == [4, 5]


async def test_events_published_while_a_follower_is_busy_are_not_lost() -> None:
    events = Events()
    stream = events.follow(0, AGES_S)
    events.publish("settled", "a")
    assert seqs(await take(stream, 1)) == [1]
    for _ in range(3):
        events.publish("settled", "a")
    assert seqs(await take(stream, 3)) == [2, 3, 4]


async def test_every_follower_hears_everything() -> None:
    events = Events()
    followers = [asyncio.ensure_future(take(events.follow(0, AGES_S), 3)) for _ in range(4)]
    for _ in range(3):
        await asyncio.sleep(0)
        events.publish("settled", "a")
    assert [seqs(await each) for each in followers] == [[1, 2, 3]] * 4


async def test_silence_is_told() -> None:
    events = Events()
    stream = events.follow(0, 0.001)
    assert await take(stream, 2) == [None, None]
    events.publish("settled", "a")
    assert seqs(await take(stream, 2)) == [1, None]


async def test_the_oldest_events_are_forgotten_first() -> None:
    events = Events()
    for _ in range(LEDGER_EVENTS_KEPT + 5):
        events.publish("settled", "a")
    assert seqs(await take(events.follow(2, AGES_S), 2)) == [6, 7]
    assert seqs(await take(events.follow(LEDGER_EVENTS_KEPT + 3, AGES_S), 2)) == [
        LEDGER_EVENTS_KEPT + 4,
        LEDGER_EVENTS_KEPT + 5,
    ]


async def test_a_cursor_of_a_former_process_hides_nothing() -> None:
    """Numbers go on from a figure that only grows, so a follower who comes back gets all that this process has seen."""
    former, now = Events(first_seq=1000), Events(first_seq=2000)
    former.publish("settled", "a")
    now.publish("opened", "a")
    assert seqs(await take(former.follow(0, AGES_S), 1)) == [1000]
    assert seqs(await take(now.follow(1000, AGES_S), 1)) == [2000]


async def test_a_cursor_from_the_future_begins_anew() -> None:
    """The calendar went back between two processes: better to hear an event twice than never."""
    events = Events(first_seq=10)
    events.publish("opened", "a")
    assert seqs(await take(events.follow(5000, AGES_S), 1)) == [10]


async def test_events_are_wanted_from_the_first_follower_on_and_still_when_it_has_left() -> None:
    """It may come again, and then gets what it missed."""
    events = Events(wanted=False)
    assert not events.wanted
    stream = events.follow(0, AGES_S)
    assert events.wanted
    await stream.aclose()
    assert events.wanted
