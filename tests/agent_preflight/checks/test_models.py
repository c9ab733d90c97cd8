"""Models: whether they are listed, their prices, their parameters, and how many calls a budget pays for."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight.base.usd import pusd
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.models import (
    check_estimate,
    check_tool_support,
    estimate_text,
    find_model,
    price_per_m,
    similar,
)
from agent_preflight.checks.report import CheckLine
from agent_preflight.estimates.calls_that_fit import estimate
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.cases import each
from tests.support.quote_cases import endpoint

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
def test_a_model_whose_suffix_is_not_listed_is_found_as_its_base_model(model: str, found: str | None) -> None:
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
def test_a_price_that_is_not_a_number_is_not_used(text: Any, price: Decimal | None) -> None:
    assert price_per_m({"pricing": {"prompt": text}}, "prompt") == price


def test_without_required_parameters_the_check_is_skipped() -> None:
    inputs = Inputs("adm", "inf", ("a/b",), 1.0)
    (line,) = check_tool_support(inputs, Facts(inputs))
    detail = "no required_params/common_required_params specified — skipped"
    assert (line.ok, line.name, line.detail, line.failure) == (None, "Parameter support", detail, "")


@each("info", [{}, {"pricing": None}, {"pricing": []}, {"pricing": {}}])
def test_a_model_without_prices_has_none(info: dict[str, Any]) -> None:
    assert price_per_m(info, "prompt") is None


LISTED = ["openai/gpt-4.1-nano", "openai/gpt-4.1-mini", "anthropic/claude-sonnet-4.5", "x-ai/Grok-4"]


@each(
    "written, suggestion",
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
def test_the_most_similar_model_is_suggested(written: str, suggestion: str | None) -> None:
    assert next(iter(similar(LISTED, written)), None) == suggestion
    assert len(similar(LISTED * 3, written)) <= 3


NANO, SONNET = "openai/gpt-4.1-nano", "anthropic/claude-sonnet-4.5"
Serve = Callable[[Script], ScriptedServer]


def look(*models: str, budget: float = 0.25, **more: Any) -> list[CheckLine]:
    inputs = Inputs("adm", "", models, budget, **more)
    return check_estimate(inputs, Facts(inputs))


@pytest.mark.wire
def test_the_default_budget_passes_for_a_cheap_model_and_warns_for_an_expensive_one(simulator: Simulator) -> None:
    cheap, dear = look(NANO, SONNET, budget=0.08)
    assert (cheap.ok, cheap.failure, cheap.hint) == (True, "", "")
    assert "max_tokens" not in cheap.detail
    assert (dear.ok, dear.failure) == (None, "")
    assert dear.name == f"Calls in the budget {SONNET}"
    assert "$0.08 affords no call of 20,000 prompt tokens; one can cost up to $" in dear.detail
    assert " if the agent asks for no max_tokens (" in dear.detail
    assert dear.hint.startswith("raise the budget to $")
    assert dear.hint.endswith(
        "; 20,000 is assumed: if your first prompt is smaller, say --expect-tokens N (Python: expect_tokens=N)"
    )
    assert list(simulator.requests) == []


@pytest.mark.wire
def test_a_budget_below_one_call_fails_only_if_the_prompt_size_was_stated(simulator: Simulator) -> None:
    assumed, stated, small = (look(SONNET, budget=0.08, expect_tokens=tokens)[0] for tokens in (None, 20_000, 1000))
    assert (assumed.ok, stated.ok) == (None, False)
    assert stated.failure == f"{SONNET}: {stated.detail}"
    assert assumed.hint.startswith(f"{stated.hint}; 20,000 is assumed: ")
    assert (small.ok, small.failure) == (None, "")  # between one call and four: a warning, stated or not


@pytest.mark.wire
def test_each_model_is_estimated_with_its_own_budget(simulator: Simulator) -> None:
    own, general = look(SONNET, NANO, budget=0.0001, budgets={SONNET: 100.0}, expect_tokens=20_000)
    assert (own.ok, general.ok) == (True, False)
    assert own.detail.startswith("$100.00 affords ")


@pytest.mark.wire
def test_prices_are_read_in_parallel_and_reported_in_order(serve: Serve) -> None:
    """Each read waits for the others, so reads one after another would time out."""
    barrier = threading.Barrier(4, timeout=60)

    def answer(seen: Seen) -> tuple[int, Any]:
        barrier.wait()
        return 404, {}

    serve(answer)
    models = ("a/d", "a/b", "a/c", "a/a")
    assert [line.name for line in look(*models)] == [f"Calls in the budget {model}" for model in models]


@pytest.mark.wire
def test_provider_keys_of_the_account_raise_the_worst_case(simulator: Simulator) -> None:
    (plain,), (byok,) = look(SONNET), look(SONNET, byok=True)
    assert plain.detail != byok.detail


@pytest.mark.wire
def test_prices_that_cannot_be_read_are_a_warning_even_if_the_prompt_size_was_stated(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {}}) if seen.path == "/key" else (500, {}))
    (line,) = look(SONNET, expect_tokens=1000)
    assert (line.ok, line.failure) == (None, "")
    assert line.detail.startswith("not estimated: ")


@pytest.mark.wire
def test_an_unreachable_openrouter_is_one_failure_for_all_models(serve: Serve) -> None:
    serve(lambda seen: (500, {}))
    (line,) = look(SONNET, NANO)
    assert (line.ok, line.name) == (False, "OpenRouter")
    assert ": it answers with 500. Check" in line.failure


@pytest.mark.wire
def test_models_whose_prices_could_be_read_are_reported(serve: Serve) -> None:
    serve(lambda seen: (404, {}) if NANO in seen.path else (500, {}))
    sonnet, nano = look(SONNET, NANO)
    assert sonnet.detail.startswith("not estimated: OpenRouter answered 500 for the prices of")
    assert nano.detail.startswith("every call is refused: ")


@pytest.mark.wire
@pytest.mark.parametrize("model", ["no/such", "openrouter/auto"])
def test_a_model_that_the_proxy_refuses_counts_as_a_budget_below_one_call(simulator: Simulator, model: str) -> None:
    (assumed,), (stated,) = look(model), look(model, expect_tokens=1000)
    assert (assumed.ok, stated.ok) == (None, False)
    assert stated.detail.startswith("every call is refused: ")
    assert stated.hint == assumed.hint == "take another model"


def test_a_clamped_first_call_reports_how_long_its_answer_can_be() -> None:
    result = estimate(SONNET, pusd("0.5"), [endpoint()])
    assert estimate_text(result).endswith(f"so the first answer is cut from 64,000 to {result.first_bound:,} tokens")
    assert "max_tokens" not in estimate_text(replace(result, bound=result.floor))
    assert "cut" not in estimate_text(replace(result, first_bound=64_000))


def test_a_refused_call_reports_the_least_that_it_could_cost() -> None:
    result = estimate(SONNET, pusd("0.05"), [endpoint()])
    assert estimate_text(result).endswith(
        "one can cost up to $1.04 if the agent asks for no max_tokens ($0.0855 with an answer of 1,024 tokens)"
    )


def test_a_model_that_the_proxy_refuses_has_the_reason() -> None:
    assert estimate_text(estimate("openrouter/auto", 1, [endpoint()])).startswith("every call is refused: Routers")
