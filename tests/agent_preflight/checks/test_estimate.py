"""The check of what a budget affords: a warning below five calls, a failure only where the prompt's size was stated."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.checks.estimate import check_estimate, told
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine
from agent_preflight.estimates.calls_that_fit import estimate
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.quote_cases import endpoint

NANO, SONNET = "openai/gpt-4.1-nano", "anthropic/claude-sonnet-4.5"
Serve = Callable[[Script], ScriptedServer]


def look(*models: str, budget: float = 0.25, **more: Any) -> list[CheckLine]:
    inputs = Inputs("adm", "", models, budget, **more)
    return check_estimate(inputs, Facts(inputs))


@pytest.mark.wire
def test_the_default_budget_is_fine_for_a_cheap_model_and_a_warning_for_a_dear_one(simulator: Simulator) -> None:
    cheap, dear = look(NANO, SONNET)
    assert (cheap.ok, cheap.failure, cheap.hint) == (True, "", "")
    assert "max_tokens" not in cheap.detail
    assert (dear.ok, dear.failure) == (None, "")
    assert dear.name == f"Calls in the budget {SONNET}"
    assert "$0.25 affords no call of 20,000 prompt tokens; one can cost up to $" in dear.detail
    assert " if the agent asks for no max_tokens (" in dear.detail
    assert dear.hint.startswith("raise the budget to $")
    assert dear.hint.endswith(
        "; 20,000 is assumed: if your first prompt is smaller, say --expect-tokens N (Python: expect_tokens=N)"
    )
    assert list(simulator.requests) == []


@pytest.mark.wire
def test_a_budget_without_one_call_fails_where_the_prompt_was_stated(simulator: Simulator) -> None:
    assumed, stated, small = (look(SONNET, expect_tokens=tokens)[0] for tokens in (None, 20_000, 1000))
    assert (assumed.ok, stated.ok) == (None, False)
    assert stated.failure == f"{SONNET}: {stated.detail}"
    assert assumed.hint.startswith(f"{stated.hint}; 20,000 is assumed: ")
    assert (small.ok, small.failure) == (None, "")  # between one call and four: a warning, stated or not


@pytest.mark.wire
def test_each_model_is_judged_by_its_own_budget(simulator: Simulator) -> None:
    own, general = look(SONNET, NANO, budget=0.0001, budgets={SONNET: 100.0}, expect_tokens=20_000)
    assert (own.ok, general.ok) == (True, False)
    assert own.detail.startswith("$100.00 affords ")


@pytest.mark.wire
def test_a_field_of_models_is_read_side_by_side_and_told_in_its_order(serve: Serve) -> None:
    """Each read waits for the others: one after the other they would never meet."""
    meeting = threading.Barrier(4, timeout=60)

    def answer(seen: Seen) -> tuple[int, Any]:
        meeting.wait()
        return 404, {}

    serve(answer)
    models = ("a/d", "a/b", "a/c", "a/a")
    assert [line.name for line in look(*models)] == [f"Calls in the budget {model}" for model in models]


@pytest.mark.wire
def test_keys_of_ones_own_raise_the_worst_case(simulator: Simulator) -> None:
    (plain,), (byok,) = look(SONNET), look(SONNET, byok=True)
    assert plain.detail != byok.detail


@pytest.mark.wire
def test_what_cannot_be_read_is_a_warning_even_where_the_prompt_was_stated(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {}}) if seen.path == "/key" else (500, {}))
    (line,) = look(SONNET, expect_tokens=1000)
    assert (line.ok, line.failure) == (None, "")
    assert line.detail.startswith("not estimated: ")


@pytest.mark.wire
def test_an_openrouter_that_does_not_answer_is_one_failure_for_all_models(serve: Serve) -> None:
    serve(lambda seen: (500, {}))
    (line,) = look(SONNET, NANO)
    assert (line.ok, line.detail) == (False, "not known: OpenRouter cannot be reached")
    assert ": it answers with 500. Check" in line.failure


@pytest.mark.wire
def test_the_models_that_could_be_read_are_told(serve: Serve) -> None:
    serve(lambda seen: (404, {}) if NANO in seen.path else (500, {}))
    sonnet, nano = look(SONNET, NANO)
    assert sonnet.detail.startswith("not estimated: the prices of")
    assert nano.detail.startswith("every call is refused: ")


@pytest.mark.wire
@pytest.mark.parametrize("model", ["no/such", "openrouter/auto"])
def test_a_model_that_every_call_to_is_refused_is_judged_as_one_without_a_call(
    simulator: Simulator, model: str
) -> None:
    (assumed,), (stated,) = look(model), look(model, expect_tokens=1000)
    assert (assumed.ok, stated.ok) == (None, False)
    assert stated.detail.startswith("every call is refused: ")
    assert stated.hint == assumed.hint == "take another model"


def test_a_clamped_first_call_says_how_long_its_answer_can_be() -> None:
    found = estimate(SONNET, pusd("0.5"), [endpoint()])
    assert told(found).endswith(f"so the first answer is cut from 64,000 to {found.first_bound:,} tokens")
    assert "max_tokens" not in told(replace(found, bound=found.floor))
    assert "cut" not in told(replace(found, first_bound=64_000))


def test_a_refused_call_says_what_the_least_would_cost() -> None:
    found = estimate(SONNET, pusd("0.25"), [endpoint()])
    assert told(found).endswith(
        "one can cost up to $1.21 if the agent asks for no max_tokens ($0.257 with an answer of 1,024 tokens)"
    )


def test_a_model_that_the_proxy_refuses_says_why() -> None:
    assert told(estimate("openrouter/auto", 1, [endpoint()])).startswith("every call is refused: Routers")
