"""How a call waits before it leaves, and which endpoints it asks (M11, sent once; M20, upstream's refusals)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from openrouter_sim import Simulator
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.sending import Sender
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import RETRY_AFTER_S_DEFAULT, Remedy, UpstreamRefusal
from preflight_proxy.upstream.client import Upstream
from tests.support.fake_clock import FakeClock
from tests.support.reserved_calls import KEY, reserved_call

pytestmark = pytest.mark.wire

TAGS = ("a", "b/1", "b/2")


class Case:
    """A call to model `m` that the endpoints `a` of A, and `b/1` and `b/2` of B may serve; its client waits for 45 s."""

    def __init__(self, upstream: Upstream, sim: Simulator) -> None:
        self._sim = sim
        self.clock = FakeClock()
        self.backoff = Backoff(self.clock)
        self.call = reserved_call(dict(zip(TAGS, "ABB", strict=True)))
        self.sender = Sender(upstream, self.backoff, self.clock, self.call)

    async def send(self) -> None:
        (await self.sender.post(lambda: True)).close()

    async def refused(self, *refusals: UpstreamRefusal) -> list[bool]:
        """Send once before each refusal and once after the last; return whether each can be waited out."""
        waits_out = []
        for refusal in refusals:
            await self.send()
            waits_out.append(self.sender.waits_out(refusal))
        await self.send()
        return waits_out

    @property
    def tags_sent(self) -> list[tuple[str, ...]]:
        return [tuple(json.loads(request.body)["provider"]["only"]) for request in self._sim.requests]

    @property
    def bounds_sent(self) -> list[int]:
        return [json.loads(request.body)["max_tokens"] for request in self._sim.requests]


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    async with Simulator() as sim, Upstream(sim.base_url) as upstream:
        yield Case(upstream, sim)


def limited(provider: str | None, seconds: float = 10.0) -> UpstreamRefusal:
    return UpstreamRefusal(429, True, True, Remedy.WAIT_MODEL, seconds, provider, cause=Code.HELD)


async def test_all_endpoints_are_asked_at_first(case: Case) -> None:
    assert await case.refused() == []
    assert case.tags_sent == [("a", "b/1", "b/2")]


async def test_all_endpoints_of_a_provider_that_asks_to_wait_are_left_out(case: Case) -> None:
    assert await case.refused(limited("B", 3000)) == [True]
    assert case.tags_sent[1:] == [("a",)]


async def test_when_the_last_provider_asks_to_wait_the_first_that_is_ready_is_waited_for(case: Case) -> None:
    assert await case.refused(limited("B", 3000), limited("A", 20)) == [True, True]
    assert case.backoff.wait_s("m", TAGS) == 20


async def test_a_provider_that_is_delayed_and_named_again_delays_the_model(case: Case) -> None:
    """It was not asked, so upstream did not say who refused. To send again at once would be a flood."""
    assert await case.refused(limited("B", 30), limited("B", 30)) == [True, True]
    assert case.backoff.wait_s("m", ["a"]) == 30


@pytest.mark.parametrize(
    ("affords", "lowers"),
    [(1024, True), (3999, True), (1023, False), (4000, False), (4001, False), (0, False), (None, False)],
)
async def test_a_bound_that_is_affordable_is_sent_if_it_is_below_ours_and_not_below_the_floor(
    case: Case, affords: int | None, lowers: bool
) -> None:
    assert case.sender.lowers(too_dear(affords)) is lowers
    await case.send()
    assert case.bounds_sent == [affords if lowers else 4000]


async def test_the_bound_is_lowered_once(case: Case) -> None:
    assert [case.sender.lowers(too_dear(bound)) for bound in (2000, 1500)] == [True, False]


def too_dear(affords: int | None) -> UpstreamRefusal:
    return UpstreamRefusal(402, True, True, Remedy.REWRITE, 2.0, cause=Code.ACCOUNT_AFFORDS, affords=affords)


async def test_a_wait_longer_than_the_client_waits_is_not_begun(case: Case) -> None:
    case.clock.advance(2.0)
    case.backoff.delay("m", limited(None, 43.5))
    assert await case.sender.wait() is Code.HELD


async def test_without_a_time_each_wait_of_a_call_is_twice_the_last(case: Case) -> None:
    waits_s = []
    refusal = replace(limited(None, RETRY_AFTER_S_DEFAULT), names_time=False)
    while case.sender.waits_out(refusal):
        waits_s.append(case.backoff.wait_s("m", TAGS))
        case.clock.advance(waits_s[-1])
    assert waits_s == [2, 4, 8, 16]


async def test_a_wait_ends_with_its_client(case: Case) -> None:
    case.backoff.delay("m", limited(None, 40.0))
    waiting = asyncio.ensure_future(case.sender.wait())
    await asyncio.sleep(0)
    case.sender.drain()
    async with asyncio.timeout(20):
        assert await waiting is None


async def test_a_reserved_call_shows_neither_its_key_nor_its_text(case: Case) -> None:
    call = replace(case.call, context=replace(case.call.context, headers=(("Authorization", "Bearer token"),)))
    assert not any(text in repr(call) for text in (KEY, "Bearer", "messages"))
