"""Finding models and reading their prices."""

from decimal import Decimal
from typing import Any

from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.models import alike, check_tool_support, find_model, price_per_m
from tests.support.cases import each

MODELS: dict[str, dict[str, Any]] = {"a/b": {"id": "a/b"}, "c/d:free": {"id": "c/d:free"}, "c/d": {"id": "c/d"}}


@each(
    "model, found",
    [
        ("a/b", "a/b"),
        ("a/b:online", "a/b"),
        ("a/b:nitro:floor", "a/b"),
        ("c/d:free", "c/d:free"),
        ("c/d:nitro", "c/d"),
        ("x/y", None),
        ("x/y:free", None),
        ("", None),
    ],
)
def test_a_suffix_that_is_not_listed_is_its_base_model(model: str, found: str | None) -> None:
    info = find_model(MODELS, model)
    assert (info or {}).get("id") == found


@each(
    "text, price",
    [
        ("0.000003", Decimal(3)),
        ("0", Decimal(0)),
        ("-1", None),
        ("free", None),
        (None, None),
        ("NaN", None),
        ("1e900000", None),
        ("9" * 5000, None),
        (3e-06, Decimal(3)),
        ({}, None),
    ],
)
def test_a_price_that_is_no_number_is_no_price(text: Any, price: Decimal | None) -> None:
    assert price_per_m({"pricing": {"prompt": text}}, "prompt") == price


def test_without_parameters_to_look_for_the_check_says_so() -> None:
    inputs = Inputs("adm", "inf", ("a/b",), 1.0)
    (line,) = check_tool_support(inputs, Facts(inputs))
    detail = "no required_params/common_required_params specified — skipped"
    assert (line.ok, line.name, line.detail, line.failure) == (None, "Parameter support", detail, "")


@each("info", [{}, {"pricing": None}, {"pricing": []}, {"pricing": {}}])
def test_a_model_without_prices_has_none(info: dict[str, Any]) -> None:
    assert price_per_m(info, "prompt") is None


LISTED = ["openai/gpt-4.1-nano", "openai/gpt-4.1-mini", "anthropic/claude-sonnet-4.5", "x-ai/Grok-4"]


@each(
    "written, meant",
    [
        ("openai/gpt-41-nano", "openai/gpt-4.1-nano"),
        ("gpt-4.1-nano", "openai/gpt-4.1-nano"),
        ("openrouter/gpt-4.1-mini:free", "openai/gpt-4.1-mini"),
        ("claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("anthropic/claude-sonet-4-5", "anthropic/claude-sonnet-4.5"),
        ("X-AI/grok4", "x-ai/Grok-4"),
        ("grok-4", "x-ai/Grok-4"),
        ("n/n", None),
        ("", None),
    ],
)
def test_the_likeliest_model_is_suggested(written: str, meant: str | None) -> None:
    assert next(iter(alike(LISTED, written)), None) == meant
    assert len(alike(LISTED * 3, written)) <= 3
