"""When upstream asks for patience, it gets it: for one model, or from the whole process (M20)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight_proxy.calls.backoff import DELAYS_MAX, LOOK_AGAIN_S, Backoff
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import Remedy, UpstreamRefusal
from tests.support.fake_clock import FakeClock


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
