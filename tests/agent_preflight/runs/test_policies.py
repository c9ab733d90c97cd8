"""One policy for each trial."""

import threading

import pytest

from agent_preflight.eject import BudgetFractionEject, CompositeEject, EjectPolicy
from agent_preflight.runs.policies import policy_for_trial
from preflight_proxy.core.errors import ConfigError


class Counting(EjectPolicy):
    """Keeps state, as users' policies do."""

    def __init__(self) -> None:
        self.seen: list[int] = []


class Uncopyable(EjectPolicy):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_a_policy_is_copied_so_that_trials_share_no_state() -> None:
    given = Counting()
    first, second = policy_for_trial(given, 1.0), policy_for_trial(given, 1.0)
    assert isinstance(first, Counting)
    assert isinstance(second, Counting)
    first.seen.append(1)
    assert second.seen == given.seen == []


def test_a_factory_and_a_class_make_a_new_one_for_each_trial() -> None:
    assert isinstance(policy_for_trial(lambda: BudgetFractionEject(0.5), 1.0), BudgetFractionEject)
    assert isinstance(policy_for_trial(Counting, 1.0), Counting)


def test_what_cannot_be_copied_is_refused_and_a_factory_of_it_is_not() -> None:
    with pytest.raises(ConfigError, match="function without arguments"):
        policy_for_trial(Uncopyable(), 1.0)
    assert isinstance(policy_for_trial(Uncopyable, 1.0), Uncopyable)


def test_none_means_the_defaults() -> None:
    policy = policy_for_trial(None, 7.0)
    assert isinstance(policy, CompositeEject)
    assert [type(each).__name__ for each in policy.policies] == ["BudgetExceededEject", "IdleTimeoutEject"]


def test_what_is_neither_policy_nor_factory_is_refused() -> None:
    with pytest.raises(ConfigError):
        policy_for_trial(7, 1.0)  # type: ignore[arg-type]  # what a script may do
