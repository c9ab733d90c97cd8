"""When upstream asks for patience, it gets it: for one model, or from the whole process (M20)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from preflight_proxy.calls.backoff import DELAYS_MAX, LOOK_AGAIN_S, Backoff, CallBackoff
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import RETRY_AFTER_S_DEFAULT, Remedy, UpstreamRefusal
from tests.support.fake_clock import FakeClock
from tests.support.reserved_calls import KEY, reserved_call


def refusal(remedy: Remedy, seconds: float = 10.0) -> UpstreamRefusal:
    return UpstreamRefusal(429, True, True, remedy, seconds, cause=Code.HELD)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic_s=1000.0)


def test_at_first_no_call_is_delayed(clock: FakeClock) -> None:
    assert Backoff(clock).wait_s("m", ["a", "b"]) == 0


def test_a_rate_limit_delays_only_its_model_and_for_its_time(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_MODEL))
    assert (backoff.wait_s("m", ["a", "b"]), backoff.wait_s("other", ["a", "b"])) == (10, 0)
    clock.advance(9.5)
    assert backoff.wait_s("m", ["a", "b"]) == 0.5
    clock.advance(0.5)
    assert backoff.wait_s("m", ["a", "b"]) == 0


def test_a_named_endpoint_is_delayed_alone_and_the_others_are_ready(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_MODEL), ["a"])
    assert backoff.ready_tags("m", ["a", "b"]) == ("b",)
    assert (backoff.wait_s("m", ["a", "b"]), backoff.wait_s("m", ["a"]), backoff.wait_s("other", ["a"])) == (0, 10, 0)


def test_where_all_are_delayed_the_first_that_is_ready_ends_the_wait(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 10), ["a"])
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 4), ["b"])
    assert backoff.wait_s("m", ["a", "b"]) == 4
    assert backoff.ready_tags("m", ["a", "b"]) == ("a", "b")
    clock.advance(4)
    assert backoff.ready_tags("m", ["a", "b"]) == ("b",)


def test_the_in_flight_budget_delays_every_model(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_PROCESS))
    assert (backoff.wait_s("m", ["a", "b"]), backoff.wait_s("other", ["a", "b"])) == (10, 10)


def test_the_longer_delay_counts_whatever_comes_last(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 10))
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 2))
    assert backoff.wait_s("m", ["a", "b"]) == 10
    backoff.delay("x", refusal(Remedy.WAIT_PROCESS, 20))
    backoff.delay("x", refusal(Remedy.WAIT_PROCESS, 1))
    assert (backoff.wait_s("m", ["a", "b"]), backoff.wait_s("other", ["a", "b"])) == (20, 20)


@pytest.mark.parametrize("remedy", [Remedy.PASS, Remedy.REWRITE, Remedy.FREEZE, Remedy.REQUOTE])
def test_other_refusals_delay_nothing(clock: FakeClock, remedy: Remedy) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(remedy))
    assert backoff.wait_s("m", ["a", "b"]) == 0


def test_many_names_do_not_push_out_delays_that_still_run(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    for number in range(DELAYS_MAX - 1):
        backoff.delay(str(number), refusal(Remedy.WAIT_MODEL, 1))
        backoff.delay(str(number), refusal(Remedy.WAIT_MODEL, 46))
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 45))
    backoff.delay("long", refusal(Remedy.WAIT_MODEL, 100))
    clock.advance(2)
    backoff.delay("one more", refusal(Remedy.WAIT_MODEL, 1))
    assert backoff.wait_s("m", ["a", "b"]) == 43
    clock.advance(50)
    backoff.delay("one more", refusal(Remedy.WAIT_MODEL, 46))
    assert backoff.refusal("long", "") is Code.HELD


HOUR_S = 3600.0


def daily(*, names_time: bool = True, free_models: bool = True) -> UpstreamRefusal:
    limited = replace(refusal(Remedy.WAIT_MODEL, 2 * HOUR_S if names_time else 2), cause=Code.DAILY_LIMIT)
    return replace(limited, names_time=names_time, free_models=free_models)


def test_a_wait_longer_than_a_client_waits_refuses_the_model_to_the_key_that_was_refused(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 46), key="k")
    assert (backoff.refusal("m", "k"), backoff.refusal("m", "other"), backoff.refusal("other", "k")) == (
        Code.HELD,
        None,
        None,
    )
    assert backoff.wait_s("m", ["a"]) == 0
    clock.advance(46)
    assert backoff.refusal("m", "k") is None


def test_a_daily_limit_on_free_models_refuses_all_of_them_and_no_other(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m:free", daily(), key="k")
    assert [backoff.refusal(model, "k") for model in ("m:free", "n:free", "m")] == [Code.DAILY_LIMIT] * 2 + [None]
    assert backoff.refusal("m:free", "other") is None
    one = Backoff(clock)
    one.delay("m:free", daily(free_models=False), key="k")
    assert [one.refusal(model, "k") for model in ("m:free", "n:free")] == [Code.DAILY_LIMIT, None]


def test_one_call_every_few_minutes_is_sent_to_see_whether_upstream_still_refuses(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m:free", daily(), key="k")
    went = []
    for _ in range(int(2 * HOUR_S) - 1):
        clock.advance(1)
        went += [clock.monotonic_s()] * (backoff.refusal("m:free", "k") is None)
    assert [moment - 1000.0 for moment in went] == [LOOK_AGAIN_S * turn for turn in range(1, 24)]
    clock.advance(1)
    assert [backoff.refusal("m:free", "k") for _ in range(2)] == [None, None]


def test_a_daily_limit_without_a_time_is_tried_again_in_a_few_minutes(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m:free", daily(names_time=False), key="k")
    clock.advance(LOOK_AGAIN_S - 1)
    assert backoff.refusal("m:free", "k") is Code.DAILY_LIMIT
    clock.advance(1)
    assert backoff.refusal("m:free", "k") is None


def test_a_call_that_is_served_ends_the_refusals_of_its_key(clock: FakeClock) -> None:
    backoff = Backoff(clock)
    backoff.delay("m:free", daily(), key="k")
    backoff.delay("m", refusal(Remedy.WAIT_MODEL, 100), key="k")
    backoff.clear("n:free", "other")
    assert backoff.refusal("m:free", "k") is Code.DAILY_LIMIT
    backoff.clear("n:free", "k")
    assert (backoff.refusal("m:free", "k"), backoff.refusal("m", "k")) == (None, Code.HELD)
    backoff.clear("m", "k")
    assert backoff.refusal("m", "k") is None


TAGS = ("a", "b/1", "b/2")


class Case:
    """A call to model `m` that the endpoints `a` of A, and `b/1` and `b/2` of B may serve; its client waits for 45 s."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.backoff = Backoff(self.clock)
        self.call = reserved_call(dict(zip(TAGS, "ABB", strict=True)))
        self.own = CallBackoff(self.backoff, self.clock, self.call)
        self.tags_sent: list[tuple[str, ...]] = []

    def send(self) -> Any:
        """Return the body that is sent now."""
        body = json.loads(self.own.body())
        self.tags_sent.append(tuple(body["provider"]["only"]))
        return body

    def refused(self, *refusals: UpstreamRefusal) -> list[bool]:
        """Send once before each refusal and once after the last; return whether each can be waited out."""
        waits_out = []
        for refusal in refusals:
            self.send()
            waits_out.append(self.own.waits_out(refusal))
        self.send()
        return waits_out


@pytest.fixture
def case() -> Case:
    return Case()


def by_provider(provider: str | None, seconds: float = 10.0) -> UpstreamRefusal:
    return UpstreamRefusal(429, True, True, Remedy.WAIT_MODEL, seconds, provider, cause=Code.HELD)


def test_all_endpoints_are_asked_at_first(case: Case) -> None:
    assert case.refused() == []
    assert case.tags_sent == [("a", "b/1", "b/2")]


def test_all_endpoints_of_a_provider_that_asks_to_wait_are_left_out(case: Case) -> None:
    assert case.refused(by_provider("B", 3000)) == [True]
    assert case.tags_sent[1:] == [("a",)]


def test_when_the_last_provider_asks_to_wait_the_first_that_is_ready_is_waited_for(case: Case) -> None:
    assert case.refused(by_provider("B", 3000), by_provider("A", 20)) == [True, True]
    assert case.backoff.wait_s("m", TAGS) == 20


def test_a_provider_that_is_delayed_and_named_again_delays_the_model(case: Case) -> None:
    """It was not asked, so upstream did not say who refused. To send again at once would be a flood."""
    assert case.refused(by_provider("B", 30), by_provider("B", 30)) == [True, True]
    assert case.backoff.wait_s("m", ["a"]) == 30


@pytest.mark.parametrize(
    ("affords", "lowers"),
    [(1024, True), (3999, True), (1023, False), (4000, False), (4001, False), (0, False), (None, False)],
)
def test_a_bound_that_is_affordable_is_sent_if_it_is_below_ours_and_not_below_the_floor(
    case: Case, affords: int | None, lowers: bool
) -> None:
    assert case.own.lowers(too_dear(affords)) is lowers
    assert case.send()["max_tokens"] == (affords if lowers else 4000)


def test_the_bound_is_lowered_once(case: Case) -> None:
    assert [case.own.lowers(too_dear(bound)) for bound in (2000, 1500)] == [True, False]


def too_dear(affords: int | None) -> UpstreamRefusal:
    return UpstreamRefusal(402, True, True, Remedy.REWRITE, 2.0, cause=Code.ACCOUNT_AFFORDS, affords=affords)


async def test_a_wait_longer_than_the_client_waits_is_not_begun(case: Case) -> None:
    case.clock.advance(2.0)
    case.backoff.delay("m", by_provider(None, 43.5))
    assert await case.own.wait() is Code.HELD


def test_without_a_time_each_wait_of_a_call_is_twice_the_last(case: Case) -> None:
    waits_s = []
    refusal = replace(by_provider(None, RETRY_AFTER_S_DEFAULT), names_time=False)
    while case.own.waits_out(refusal):
        waits_s.append(case.backoff.wait_s("m", TAGS))
        case.clock.advance(waits_s[-1])
    assert waits_s == [2, 4, 8, 16]


async def test_a_wait_ends_with_its_client(case: Case) -> None:
    case.backoff.delay("m", by_provider(None, 40.0))
    waiting = asyncio.ensure_future(case.own.wait())
    await asyncio.sleep(0)
    case.own.stop_waiting()
    async with asyncio.timeout(20):
        assert await waiting is None


def test_a_reserved_call_shows_neither_its_key_nor_its_text(case: Case) -> None:
    call = msgspec.structs.replace(
        case.call, context=msgspec.structs.replace(case.call.context, headers=(("Authorization", "Bearer token"),))
    )
    assert not any(text in repr(call) for text in (KEY, "Bearer", "messages"))
