"""How a call waits before it leaves, and whom it then asks (M11, M20)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.sending import Outgoing, Sender
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import RETRY_AFTER_S_DEFAULT, Remedy, UpstreamRefusal
from preflight_proxy.upstream.client import NotSentError, Upstream
from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire

NOWHERE = "http://127.0.0.1:1"


class Case:
    """A call to model `m` that the endpoints `a` of A, and `b/1` and `b/2` of B may serve; its client waits for 45 s."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.holds = Backoff(self.clock)
        self.asked: list[tuple[str, ...]] = []
        tags_of = {"A": ["a"], "B": ["b/1", "b/2"]}
        self.bounds: list[int] = []
        tags = ("a", "b/1", "b/2")
        self.outgoing = Outgoing("/x?secret", [], self._body, "sk-or-real", "m", tags, tags_of, bound=4000, floor=1024)

    def _body(self, only: Sequence[str], bound: int) -> bytes:
        self.asked.append(tuple(only))
        self.bounds.append(bound)
        return b"{}"

    def sending(self, upstream: Upstream) -> Sender:
        return Sender(upstream, self.holds, self.outgoing, self.clock, 45.0)

    async def sent(self, *refusals: UpstreamRefusal) -> list[bool]:
        """Knock once before each refusal and once after the last, where nobody answers; whether each can be waited out."""
        waited = []
        async with Upstream(NOWHERE) as upstream:
            sending = self.sending(upstream)
            for refusal in (*refusals, None):
                with contextlib.suppress(NotSentError):
                    await sending.post(lambda: True)
                if refusal is not None:
                    waited.append(sending.waits_out(refusal))
        return waited


def limited(provider: str | None, seconds: float = 10.0) -> UpstreamRefusal:
    return UpstreamRefusal(429, True, True, Remedy.WAIT_MODEL, seconds, provider, cause=Code.HELD)


async def test_all_endpoints_are_asked_at_first() -> None:
    case = Case()
    assert await case.sent() == []
    assert case.asked == [("a", "b/1", "b/2")]


async def test_all_endpoints_of_a_provider_that_asks_for_patience_are_left_out() -> None:
    case = Case()
    assert await case.sent(limited("B", 3000)) == [True]
    assert case.asked[1:] == [("a",)]


async def test_when_the_last_provider_asks_for_patience_the_first_that_is_free_again_is_waited_for() -> None:
    case = Case()
    assert await case.sent(limited("B", 3000), limited("A", 20)) == [True, True]
    assert case.holds.wait_s("m", case.outgoing.tags) == 20


async def test_a_provider_that_is_held_and_named_again_holds_the_model() -> None:
    """It was not asked, so upstream has not told who refused: knocking on at once would be a flood."""
    case = Case()
    assert await case.sent(limited("B", 30), limited("B", 30)) == [True, True]
    assert case.holds.wait_s("m", ["a"]) == 30


@pytest.mark.parametrize(
    ("affords", "lowers"),
    [(1024, True), (3999, True), (1023, False), (4000, False), (4001, False), (0, False), (None, False)],
)
async def test_a_bound_that_is_affordable_is_sent_if_it_is_below_ours_and_not_below_the_floor(
    affords: int | None, lowers: bool
) -> None:
    case = Case()
    async with Upstream(NOWHERE) as upstream:
        sending = case.sending(upstream)
        assert sending.lowers(too_dear(affords)) is lowers
        with contextlib.suppress(NotSentError):
            await sending.post(lambda: True)
    assert case.bounds == [affords if lowers else 4000]


def test_the_bound_is_lowered_once() -> None:
    sending = Case().sending(Upstream(NOWHERE))
    assert [sending.lowers(too_dear(bound)) for bound in (2000, 1500)] == [True, False]


def too_dear(affords: int | None) -> UpstreamRefusal:
    return UpstreamRefusal(402, True, True, Remedy.REWRITE, 2.0, cause=Code.ACCOUNT_AFFORDS, affords=affords)


async def test_a_wait_longer_than_the_client_can_bear_is_not_begun() -> None:
    case = Case()
    case.clock.advance(2.0)
    case.holds.hold("m", limited(None, 43.5))
    assert await case.sending(Upstream(NOWHERE)).patience() is Code.HELD


async def test_without_a_time_each_wait_of_a_call_is_twice_the_last() -> None:
    case = Case()
    sending, waits_s = case.sending(Upstream(NOWHERE)), []
    refusal = replace(limited(None, RETRY_AFTER_S_DEFAULT), names_time=False)
    while sending.waits_out(refusal):
        waits_s.append(case.holds.wait_s("m", case.outgoing.tags))
        case.clock.advance(waits_s[-1])
    assert waits_s == [2, 4, 8, 16]


async def test_a_wait_ends_with_its_client() -> None:
    case = Case()
    case.holds.hold("m", limited(None, 40.0))
    sending = case.sending(Upstream(NOWHERE))
    waiting = asyncio.ensure_future(sending.patience())
    await asyncio.sleep(0)
    sending.drain()
    async with asyncio.timeout(20):
        assert await waiting is None


def test_what_leaves_shows_nothing_of_itself() -> None:
    assert repr(Case().outgoing) == "<outgoing /x>"
