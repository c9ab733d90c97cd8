"""When upstream asks for patience, it gets it: for one model, or from the whole process (M20)."""

from __future__ import annotations

import pytest

from preflight_proxy.core.upstream_refusal import Remedy, UpstreamRefusal
from preflight_proxy.holds import HELD_MAX, Holds
from tests.preflight_proxy.fake_clock import FakeClock


def refusal(remedy: Remedy, seconds: float = 10.0) -> UpstreamRefusal:
    return UpstreamRefusal(429, True, True, remedy, seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic_s=1000.0)


def test_nothing_is_held_at_first(clock: FakeClock) -> None:
    assert Holds(clock).wait_s("m", ["a", "b"]) == 0


def test_a_rate_limit_holds_its_model_alone_and_for_its_time(clock: FakeClock) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(Remedy.WAIT_MODEL))
    assert (holds.wait_s("m", ["a", "b"]), holds.wait_s("other", ["a", "b"])) == (10, 0)
    clock.advance(9.5)
    assert holds.wait_s("m", ["a", "b"]) == 0.5
    clock.advance(0.5)
    assert holds.wait_s("m", ["a", "b"]) == 0


def test_a_named_endpoint_is_held_alone_and_the_others_are_free(clock: FakeClock) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(Remedy.WAIT_MODEL), ["a"])
    assert holds.free("m", ["a", "b"]) == ("b",)
    assert (holds.wait_s("m", ["a", "b"]), holds.wait_s("m", ["a"]), holds.wait_s("other", ["a"])) == (0, 10, 0)


def test_where_all_are_held_the_first_that_is_free_again_ends_the_wait(clock: FakeClock) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(Remedy.WAIT_MODEL, 10), ["a"])
    holds.hold("m", refusal(Remedy.WAIT_MODEL, 4), ["b"])
    assert holds.wait_s("m", ["a", "b"]) == 4
    assert holds.free("m", ["a", "b"]) == ("a", "b")
    clock.advance(4)
    assert holds.free("m", ["a", "b"]) == ("b",)


def test_the_in_flight_budget_holds_every_model(clock: FakeClock) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(Remedy.WAIT_PROCESS))
    assert (holds.wait_s("m", ["a", "b"]), holds.wait_s("other", ["a", "b"])) == (10, 10)


def test_the_longer_hold_counts_whatever_comes_last(clock: FakeClock) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(Remedy.WAIT_MODEL, 10))
    holds.hold("m", refusal(Remedy.WAIT_MODEL, 2))
    assert holds.wait_s("m", ["a", "b"]) == 10
    holds.hold("x", refusal(Remedy.WAIT_PROCESS, 20))
    holds.hold("x", refusal(Remedy.WAIT_PROCESS, 1))
    assert (holds.wait_s("m", ["a", "b"]), holds.wait_s("other", ["a", "b"])) == (20, 20)


@pytest.mark.parametrize("remedy", [Remedy.PASS, Remedy.REWRITE, Remedy.FREEZE, Remedy.REQUOTE])
def test_other_refusals_hold_nothing(clock: FakeClock, remedy: Remedy) -> None:
    holds = Holds(clock)
    holds.hold("m", refusal(remedy))
    assert holds.wait_s("m", ["a", "b"]) == 0


def test_many_names_do_not_push_out_what_is_still_held(clock: FakeClock) -> None:
    holds = Holds(clock)
    for number in range(HELD_MAX - 1):
        holds.hold(str(number), refusal(Remedy.WAIT_MODEL, 1))
    holds.hold("m", refusal(Remedy.WAIT_MODEL, 100))
    clock.advance(2)
    holds.hold("one more", refusal(Remedy.WAIT_MODEL, 1))
    assert holds.wait_s("m", ["a", "b"]) == 98
