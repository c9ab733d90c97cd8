"""A name is split where routing begins, and refused where it hides the price."""

import pytest

from preflight_proxy.core.body import BadRequest
from preflight_proxy.core.model_name import bare_model, check_model, split_model
from tests.cases import each


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
        (":floor", (":floor", "")),
    ],
)
def test_only_a_routing_suffix_is_split_off(model: str, split: tuple[str, str]) -> None:
    assert split_model(model) == split


@each("model", ["a/b", "a/b:free", "a/b:floor", "a/b:exacto", "~a/b-latest"])
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
        "openrouter/auto",
        "openrouter/fusion",
        "@preset/x",
        "a/b@preset/x",
        "a/b:online",
        "a/b:nitro",
        "a/b:batch",
    ],
)
def test_names_that_hide_the_price_are_refused(model: str) -> None:
    with pytest.raises(BadRequest):
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
