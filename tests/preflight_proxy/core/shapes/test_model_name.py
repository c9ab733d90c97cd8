"""A name is split where routing begins, and refused where it hides the price."""

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.model_name import bare_model, check_model, split_model
from tests.support.cases import each


@each(
    "model, split",
    [
        ("a/b", ("a/b", "")),
        ("a/b:free", ("a/b:free", "")),
        ("a/b:thinking", ("a/b:thinking", "")),
        ("a/b:extended", ("a/b:extended", "")),
        ("a/b:floor", ("a/b", "floor")),
        ("a/b:free:exacto", ("a/b:free", "exacto")),
        ("a/b:nitro", ("a/b", "nitro")),
        ("A/B:Floor", ("a/b", "floor")),
        ("a/b:floor:FREE", ("a/b:free", "floor")),
        ("a/b:floor:exacto", ("a/b", "floor:exacto")),
        ("a/b:nitro:floor", ("a/b", "nitro:floor")),
        ("a/b:2024:x", ("a/b:2024:x", "")),
    ],
)
def test_only_a_routing_suffix_is_split_off(model: str, split: tuple[str, str]) -> None:
    assert split_model(model) == split


@each("model", ["a/b", "A/B", "a/b:free", "a/b:FREE", "a/b:floor", "a/b:Exacto", "~a/b-latest", "a/b:free:floor"])
def test_models_with_the_price_of_their_list_pass(model: str) -> None:
    check_model(model)


@each(
    "model",
    [
        "",
        "a/../keys",
        "../x",
        "a/./b",
        "a b",
        "a/b?x=1",
        "a//b",
        "é/b",
        "x" * 300,
        ":floor",
        "a/b::floor",
        "openrouter/auto",
        "OpenRouter/auto",
        "OPENROUTER/AUTO:floor",
        "~OpenRouter/auto",
        "@PRESET/x",
        "a/b@Preset/x",
        "openrouter/fusion",
        "@preset/x",
        "a/b@preset/x",
        "a/b:online",
        "a/b:ONLINE",
        "a/b:Nitro",
        "a/b:nitro:floor",
        "a/b:floor:nitro",
        "a/b:free:Batch:exacto",
        "a/b:nitro",
        "a/b:batch",
    ],
)
def test_names_that_hide_the_price_are_refused(model: str) -> None:
    with pytest.raises(BadRequest):
        check_model(model)


@each("model", ["a/b:ONLINE:floor", "A/B:floor:Online"])
def test_a_refusal_names_the_suffix_and_the_model_to_ask_for_instead(model: str) -> None:
    with pytest.raises(BadRequest, match=r":online is refused.*Ask for a/b"):
        check_model(model)


@each(
    "model, bare",
    [
        ("openrouter/acme/one", "acme/one"),
        ("OpenRouter/acme/one:free", "acme/one:free"),
        ("openrouter/openrouter/auto", "openrouter/auto"),
        ("openrouter/auto", "openrouter/auto"),
        ("openrouter/", "openrouter/"),
        ("acme/one", "acme/one"),
        ("acme/openrouter/one", "acme/openrouter/one"),
        ("", ""),
    ],
)
def test_the_prefix_that_chooses_among_providers_is_no_part_of_the_id(model: str, bare: str) -> None:
    assert bare_model(model) == bare
