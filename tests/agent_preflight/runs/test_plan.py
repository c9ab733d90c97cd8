"""A run's plan: wrong arguments raise before anything is made."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.eject import BudgetFractionEject, CompositeEject, EjectPolicy
from agent_preflight.options.settings import RunSettings, read_settings
from agent_preflight.runs.plan import (
    PriorAttempt,
    default_run_id,
    key_expiry,
    mount_with_names,
    plan_trials,
    policy_for_trial,
    with_names,
)
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

MODELS = [("openai/gpt-4.1-nano", "nano"), ("anthropic/claude-haiku-4.5", "haiku")]


def plans(models: Any = MODELS, budget: Any = 0.25, arguments: Any = None, **options: Any) -> Any:
    given = {"models": models, "budget_usd": budget, "container_args": arguments, **options}
    return plan_trials(read_settings(given), "run-1", iter(["aa", "bb", "cc"]).__next__)


def test_trials_come_in_the_order_of_the_models() -> None:
    assert [trial.alias for trial in plans()] == ["nano", "haiku"]


def test_each_trials_names_stand_in_its_arguments_and_in_the_sources_of_its_mounts() -> None:
    arguments, mounts = ["--as={alias}", '{"model": "{model}"}', "{run_id}"], ["/out/{alias}/{model}:/o:ro", "v:/v"]
    nano, haiku = plans(arguments=arguments, mounts=mounts)
    assert nano.command == ("--as=nano", '{"model": "openai/gpt-4.1-nano"}', "run-1")
    assert haiku.mounts == ("/out/haiku/anthropic-claude-haiku-4.5:/o:ro", "v:/v")
    (own,) = plans(MODELS[:1], arguments={"nano": ["{alias}"]})
    assert (own.command, own.mounts) == (("nano",), ())


def test_a_sub_key_has_a_name_of_its_own_and_a_cent_above_the_budget() -> None:
    nano, haiku = plans()
    assert nano.key_name == "agent-preflight:run-1:nano:aa"
    assert haiku.key_name == "agent-preflight:run-1:haiku:bb"
    assert nano.key_limit_usd == Decimal("0.26")
    assert replace(nano, key_room_pusd=61 * 10**10).key_limit_usd == Decimal("0.86")


def test_a_trial_that_is_begun_again_has_what_is_left() -> None:
    nano = replace(plans()[0], prior=PriorAttempt(posted_pusd=2 * 10**11, limit_pusd=25 * 10**10))
    assert (nano.limit_pusd, nano.spent_before_pusd, nano.key_limit_usd) == (25 * 10**10, 2 * 10**11, Decimal("0.06"))
    topped_up = replace(nano, prior=PriorAttempt(posted_pusd=4 * 10**11, limit_pusd=10**12))
    assert (topped_up.limit_pusd, topped_up.key_limit_usd) == (10**12, Decimal("0.61"))
    assert replace(nano, prior=PriorAttempt(10**12, 0)).key_limit_usd == Decimal("0.01")


def test_a_budget_is_exact_whatever_number_it_is_written_as() -> None:
    assert plans(budget=0.1)[0].budget_pusd == plans(budget="0.10")[0].budget_pusd == 100_000_000_000


def test_budgets_may_differ_by_alias() -> None:
    assert [trial.budget_pusd for trial in plans(budget={"nano": 1, "haiku": Decimal("0.5")})] == [10**12, 5 * 10**11]


@each("budget", [0, -1, float("nan"), float("inf"), "much", {"nano": 1}, 1e9])
def test_what_is_no_budget_is_refused_before_anything_exists(budget: object) -> None:
    with pytest.raises(ConfigError):
        plans(budget=budget)


@each("alias", ["", ".", "..", "a/b", "-a", "a b", "x:free", "a\n", "plan.json", "lock", "a" * 65])
def test_an_alias_that_cannot_be_a_folder_is_refused(alias: str) -> None:
    with pytest.raises(ConfigError, match="alias"):
        plans(models=[("m/m", alias)])


def test_an_alias_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than once: same"):
        plans(models=[("a/a", "same"), ("b/b", "same")])


def test_no_models_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="nothing to run"):
        plans(models=[])


def test_arguments_are_for_all_or_by_alias() -> None:
    assert [trial.command for trial in plans(arguments=["--x", 1])] == [("--x", "1")] * 2
    assert [trial.command for trial in plans(arguments={"haiku": ["--y"]})] == [(), ("--y",)]


def test_a_process_is_started_with_its_command_and_then_its_arguments() -> None:
    process = {"sandbox": "process", "command": {"nano": ["prog"], "haiku": ["other", "-q"]}}
    assert [trial.command for trial in plans(**process)] == [("prog",), ("other", "-q")]
    assert [trial.command for trial in plans(arguments=["--x"], **process)] == [("prog", "--x"), ("other", "-q", "--x")]


def test_arguments_given_as_one_text_are_not_taken_apart() -> None:
    with pytest.raises(ConfigError, match="list of texts"):
        plans(arguments="--x")


def test_a_default_run_id_is_the_local_time() -> None:
    assert (default_run_id(datetime(2027, 1, 2, 3, 4, 5))) == "run-20270102-030405"


def test_a_sub_key_ends_by_itself_after_a_week() -> None:
    assert key_expiry(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2027-01-09T03:04:05Z"


def test_the_limits_are_options_of_the_engine_and_one_of_the_users_own_wins() -> None:
    settings = RunSettings(
        image_name="i", memory="1g", cpus="2", docker_args=("--memory=2g", "--platform", "linux/arm64")
    )
    options = settings.engine_options
    assert options.agent == {"HostConfig": {"Memory": 2 * 2**30, "NanoCpus": 2_000_000_000}}
    assert (options.gate, options.platform) == ({}, "linux/arm64")
    assert RunSettings(image_name="i").engine_options.agent == {}


def test_an_option_of_the_network_is_the_gates_and_has_no_place_in_a_sealed_trial() -> None:
    settings = RunSettings(image_name="i", network="bridge", docker_args=("--dns=1.1.1.1",))
    assert settings.engine_options.gate == {"HostConfig": {"Dns": ["1.1.1.1"]}}
    with pytest.raises(ConfigError, match="this trial is sealed"):
        _ = replace(settings, network="sealed").engine_options


NAMES = {"alias": "nano", "model": "openai/gpt-4.1-nano:free", "run_id": "run-1"}


def test_the_three_names_are_replaced_in_an_argument() -> None:
    assert with_names("{alias} {model} {run_id} {alias}", NAMES) == "nano openai/gpt-4.1-nano:free run-1 nano"


@each(
    "text",
    [
        *('{"alias": "x"}', "{ alias }", "{Alias}", "{aliases}", "{}", "{{", "}", "{alias", "alias}", "%(alias)s"),
        *("{0}", "{alias!r}", "{alias:>9}", "{model.id}", '{"model": {"run": 1}}', "${run}", "\\{", "{run-id}"),
    ],
)
def test_any_other_text_in_braces_stays_as_it_is(text: str) -> None:
    assert with_names(text, NAMES) == text
    assert mount_with_names(text, NAMES) == text


@given(st.text().filter(lambda text: not any(name in text for name in ("{alias}", "{model}", "{run_id}"))))
def test_a_text_without_them_stays_byte_for_byte(text: str) -> None:
    assert (with_names(text, NAMES), mount_with_names(text, NAMES)) == (text, text)


def test_what_a_name_holds_is_not_replaced_again() -> None:
    assert with_names("{alias}", {**NAMES, "alias": "{model}"}) == "{model}"


def test_of_a_mount_only_the_source_is_replaced_and_a_models_id_is_one_folder() -> None:
    assert (
        mount_with_names("./out/{alias}/{model}:/out/{alias}:rw", NAMES)
        == "./out/nano/openai-gpt-4.1-nano-free:/out/{alias}:rw"
    )


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


def test_a_repeat_has_its_own_name_budget_and_key_and_its_models_alias() -> None:
    first, second = plans(MODELS[:1], arguments=["{alias}"], repeats=2)
    assert [(each.alias, each.base, each.repeat) for each in (first, second)] == [
        *[("nano-1", "nano", 1), ("nano-2", "nano", 2)]
    ]
    assert (second.key_name, second.command) == ("agent-preflight:run-1:nano-2:bb", ("nano-2",))
    assert second.budget_pusd == 25 * 10**10
    (once,) = plans(MODELS[:1])
    assert (once.alias, once.base, once.repeat) == ("nano", "nano", 0)
