"""Policies judge what they are told, and nothing else."""

import copy
from typing import Any

import pytest

from agent_preflight.eject import (
    BudgetExceededEject,
    BudgetFractionEject,
    CompositeEject,
    EjectDecision,
    EjectPolicy,
    IdleTimeoutEject,
    ProgressEject,
    StallEject,
    default_eject_policies,
)
from agent_preflight.models import BudgetStatus
from tests.support.fake_clock import FakeClock


class Never(EjectPolicy):
    """A policy as scripts wrote them: exactly the four keyword arguments."""

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: list[dict[str, Any]], context: dict[str, Any]
    ) -> EjectDecision:
        context["asked"] = context.get("asked", 0) + 1
        return EjectDecision(should_eject=False)


def ask(
    policy: EjectPolicy,
    used: float = 0.0,
    limit: float = 1.0,
    *,
    spent: bool = False,
    events: int = 0,
    elapsed_s: float = 1.0,
    **context: object,
) -> EjectDecision:
    return policy.check(
        elapsed_s=elapsed_s,
        budget_status=BudgetStatus(used, limit, spent),
        events=[{"type": "raw"}] * events,
        context={"tool_calls": 0, **context},
    )


def test_the_base_policy_never_ejects() -> None:
    assert ask(EjectPolicy(), used=9.0) == EjectDecision(should_eject=False, reason="")


def test_a_used_up_budget_ejects() -> None:
    assert ask(BudgetExceededEject(), 1.0).reason == "budget exhausted ($1.000 >= $1.00)"
    assert not ask(BudgetExceededEject(), 0.99).should_eject


def test_a_budget_that_is_no_whole_cent_is_told_as_it_is() -> None:
    assert ask(BudgetExceededEject(), 0.005, 0.005).reason == "budget exhausted ($0.005 >= $0.005)"


def test_a_spent_budget_ejects_below_its_limit_after_a_grace_and_says_why() -> None:
    """An agent that is refused has time to end by itself."""
    policy = BudgetExceededEject(grace_s=10.0)
    assert not ask(policy, 0.98, spent=True, elapsed_s=50.0).should_eject
    assert not ask(policy, 0.98, spent=True, elapsed_s=59.9).should_eject
    decision = ask(policy, 0.98, spent=True, elapsed_s=60.0)
    assert decision.reason == "budget exhausted ($0.980 of $1.00, nothing more fits)"


def test_a_budget_in_which_calls_fit_again_begins_a_new_grace() -> None:
    policy = BudgetExceededEject(grace_s=10.0)
    assert not ask(policy, 0.98, spent=True, elapsed_s=50.0).should_eject
    assert not ask(policy, 0.98, elapsed_s=55.0).should_eject
    assert not ask(policy, 0.98, spent=True, elapsed_s=60.0).should_eject
    assert ask(policy, 0.98, spent=True, elapsed_s=70.0).should_eject


def test_a_budget_that_is_used_up_has_no_grace() -> None:
    assert ask(BudgetExceededEject(grace_s=10.0), 1.0, spent=True).should_eject


def test_idleness_ejects_after_the_timeout() -> None:
    clock = FakeClock()
    policy = IdleTimeoutEject(30.0, clock=clock.monotonic_s)
    assert not ask(policy, events=3).should_eject
    clock.advance(29.9)
    assert not ask(policy, events=3).should_eject
    clock.advance(0.1)
    assert ask(policy, events=3).reason == "no events for 30s (timeout=30s)"


def test_the_idle_clock_starts_at_the_first_check_not_at_construction() -> None:
    clock = FakeClock()
    policy = IdleTimeoutEject(30.0, clock=clock.monotonic_s)
    clock.advance(3600)
    assert not ask(policy).should_eject


def test_without_any_patience_the_first_check_ejects() -> None:
    decision = ask(IdleTimeoutEject(0.0, clock=FakeClock().monotonic_s))
    assert (decision.should_eject, decision.reason) == (True, "no events for 0s (timeout=0s)")


def test_a_new_event_restarts_the_idle_clock() -> None:
    clock = FakeClock()
    policy = IdleTimeoutEject(30.0, clock=clock.monotonic_s)
    for events in range(5):
        assert not ask(policy, events=events).should_eject
        clock.advance(29)


def test_a_call_begun_or_ended_is_activity() -> None:
    clock = FakeClock()
    policy = IdleTimeoutEject(30.0, clock=clock.monotonic_s)
    for calls in range(5):
        assert not ask(policy, calls=calls, calls_in_flight=0).should_eject
        clock.advance(29)


def test_a_long_call_in_flight_is_not_idleness() -> None:
    clock = FakeClock()
    policy = IdleTimeoutEject(30.0, clock=clock.monotonic_s)
    for _ in range(10):
        assert not ask(policy, calls=1, calls_in_flight=1).should_eject
        clock.advance(60)
    assert not ask(policy, calls=1, calls_in_flight=0).should_eject
    clock.advance(30)
    assert ask(policy, calls=1, calls_in_flight=0).should_eject


def test_the_wall_clock_may_jump() -> None:
    """The default clock is monotonic: two checks in a row see next to no time pass."""
    policy = IdleTimeoutEject(30.0)
    assert not ask(policy).should_eject
    assert not ask(policy).should_eject


def test_no_progress_at_a_fraction_of_the_budget_ejects() -> None:
    policy = BudgetFractionEject(0.25, lambda _: False)
    assert not ask(policy, 0.2).should_eject
    assert ask(policy, 0.25).reason == "no progress at 25% budget spent ($0.250 / $1.00)"


def test_the_fraction_is_judged_once_only() -> None:
    marks = [True, False]
    policy = BudgetFractionEject(0.25, lambda _: marks.pop(0))
    assert not ask(policy, 0.3).should_eject
    assert not ask(policy, 0.9).should_eject
    assert marks == [False]


def test_the_fraction_sees_the_context() -> None:
    policy = BudgetFractionEject(0.25, lambda context: context["tool_calls"] > 0)
    assert not ask(policy, 0.3, tool_calls=2).should_eject


def test_without_a_progress_function_the_fraction_never_ejects() -> None:
    assert not ask(BudgetFractionEject(0.0), 0.9).should_eject


def test_a_progress_function_that_raises_has_judged_nothing() -> None:
    answers: list[object] = [OSError("not there yet"), False]

    def progress(_: dict[str, Any]) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return bool(answer)

    policy = BudgetFractionEject(0.25, progress)
    with pytest.raises(OSError, match="not there yet"):
        ask(policy, 0.3)
    assert ask(policy, 0.3).should_eject


def test_spend_since_the_last_progress_ejects() -> None:
    scores = iter([0, 0, 1, 1, 1])
    policy = ProgressEject(0.20, lambda _: next(scores))
    assert not ask(policy, 0.10).should_eject
    assert not ask(policy, 0.25).should_eject
    assert not ask(policy, 0.50).should_eject
    assert not ask(policy, 0.69).should_eject
    assert ask(policy, 0.70).reason == "no progress for $0.200 spent (window=$0.20)"


def test_a_progress_window_must_be_money() -> None:
    with pytest.raises(ValueError, match="window_usd"):
        ProgressEject(0.0, lambda _: 0)


def test_the_same_request_again_and_again_ejects() -> None:
    policy = StallEject(3)
    assert not ask(policy).should_eject
    assert not ask(policy, repeats=2).should_eject
    assert ask(policy, repeats=3).reason == "same request repeated 3 times in a row (threshold=3)"


def test_one_request_is_no_repetition() -> None:
    with pytest.raises(ValueError, match="threshold"):
        StallEject(1)


def test_the_first_member_that_ejects_decides_and_later_ones_are_not_asked() -> None:
    first, last = BudgetFractionEject(0.1, lambda _: False), Never()
    context: dict[str, Any] = {}
    status = BudgetStatus(1.0, 1.0)
    decision = CompositeEject([first, last]).check(elapsed_s=0, budget_status=status, events=[], context=context)
    assert decision.reason.startswith("no progress")
    assert context == {}


def test_a_composite_of_content_members_stays() -> None:
    assert not ask(CompositeEject([Never(), Never()])).should_eject


def test_the_defaults_are_budget_then_idleness() -> None:
    budget, idle = default_eject_policies(12.0).policies
    assert isinstance(budget, BudgetExceededEject)
    assert isinstance(idle, IdleTimeoutEject)
    assert idle.timeout_s == 12.0


def test_each_trial_s_copy_keeps_its_own_state() -> None:
    original = CompositeEject([BudgetFractionEject(0.25, lambda _: False), IdleTimeoutEject(30.0)])
    one, two = copy.deepcopy(original), copy.deepcopy(original)
    assert ask(one, 0.3).should_eject
    assert not ask(one, 0.3).should_eject
    assert ask(two, 0.3).should_eject
