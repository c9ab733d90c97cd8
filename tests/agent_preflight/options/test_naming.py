"""The models of a run, and the names of their trials."""

import pytest

from agent_preflight.options.naming import (
    NamedModel,
    check_run_id,
    default_alias,
    of_agents,
    read_models,
    repeated,
)
from tests.support.cases import each


@each(
    "model, alias",
    [
        ("openai/gpt-4.1-nano", "gpt-4-1-nano"),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4"),
        ("meta-llama/llama-3.3:free", "llama-3-3-free"),
        ("plain", "plain"),
        ("a/...", "model"),
    ],
)
def test_a_default_alias_can_always_be_a_folder(model: str, alias: str) -> None:
    assert default_alias(model) == alias
    assert read_models([(model, default_alias(model))])[0].alias == alias


def aliases(*models: object) -> list[str | None]:
    return [model.alias for model in read_models(models)]


def test_a_model_is_written_in_four_ways() -> None:
    given = ["openai/gpt-4.1-nano", "x/y=alias", ("a/b", "pair"), NamedModel("c/d", "named")]
    assert [(model.id, model.alias) for model in read_models(given)] == [
        *[("openai/gpt-4.1-nano", "gpt-4-1-nano"), ("x/y", "alias"), ("a/b", "pair"), ("c/d", "named")]
    ]


def test_models_of_one_name_get_different_aliases() -> None:
    assert aliases("a/m", "a/m", "b/m") == ["m", "m-2", "m-3"]
    assert aliases("a/m", "a/m=m-2", "a/m") == ["m", "m-2", "m-3"]
    assert aliases("a/m", "b/x=m") == ["m-2", "m"]
    assert aliases("a/claude-sonnet-4.5", "a/claude-sonnet-4.5") == ["claude-sonnet-4", "claude-sonnet-2"]


def test_an_alias_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="given more than once: x"):
        aliases("a/m=x", "b/m=x", "c/m=y")


@each("given", ["a/b", 3, [3], [("a",)], [("a", "b", "c")], None, [""], ["=x"], ["a b"], ["a\n"], ["ü"], ["a" * 257]])
def test_a_value_that_is_not_a_list_of_models_is_refused(given: object) -> None:
    with pytest.raises(ValueError):
        read_models(given)


@each("alias", ["", ".", "..", "a/b", "-a", "a b", "x:free", "a\n", "plan.json", "lock", "a" * 65])
def test_an_alias_that_cannot_be_a_folder_is_refused(alias: str) -> None:
    with pytest.raises(ValueError, match="cannot be an alias"):
        read_models([("m/m", alias)])


@each("run_id", ["..", "a/b", "", ".hidden", "a" * 129, "a\n"])
def test_a_run_id_that_is_not_the_name_of_a_folder_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be a run's id"):
        check_run_id(run_id)


def test_each_model_is_repeated_and_the_first_of_every_model_comes_first() -> None:
    agents = repeated(read_models(["a/m=nano", "b/m=haiku"]), 2)
    assert [(agent.alias, agent.base, agent.repeat) for agent in agents] == [
        *[("nano-1", "nano", 1), ("haiku-1", "haiku", 1), ("nano-2", "nano", 2), ("haiku-2", "haiku", 2)]
    ]
    assert [agent.id for agent in agents] == ["a/m", "b/m", "a/m", "b/m"]
    (once,) = repeated(read_models(["a/m=nano"]), 1)
    assert (once.alias, once.base, once.repeat) == ("nano", "", 0)


@each(
    "models, repeats, why",
    [
        (["a/m=x", "b/m=x-2"], 2, "x-2 would name repeat 2 of x, and it is the alias of another model"),
        (["a/m=" + "x" * 63], 2, "cannot be an alias"),
        (["a/m=x"], 1001, "repeated 1000 times at most"),
    ],
)
def test_repeats_without_a_name_of_their_own_are_refused(models: list[str], repeats: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        repeated(read_models(models), repeats)


def test_a_mapping_by_alias_is_for_a_model_or_for_one_of_its_repeats() -> None:
    agents = repeated(read_models(["a/m=nano", "b/m=haiku"]), 2)
    assert of_agents({"nano": 1, "nano-2": 2, "other": 3}, agents) == {"nano-1": 1, "nano-2": 2}
