"""Three texts are weighed with a model whose tokenizer is unknown, and what they cost is said."""

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_preflight import provision
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine
from agent_preflight.checks.suite import BUILT_IN, DEFAULT, MAKE_KEYS
from agent_preflight.checks.token_smoke import SAMPLE_BYTES, check_token_smoke, samples
from openrouter_sim import FaultRule, Scenario, Simulator, Tokenizer, make_fault
from preflight_proxy.base.config import origin, user_counts_file
from preflight_proxy.core.pricing.token_factors import BY_BYTES
from preflight_proxy.ledger.shared_counts_file import carried_factors

MODEL = "mistralai/mistral-small-3.2-24b-instruct"
ALWAYS_REASONS = "openai/gpt-5-mini"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def unknown(simulator: Simulator) -> Simulator:
    """A simulator whose models are of a tokenizer that nobody knows."""
    for name in (MODEL, ALWAYS_REASONS):
        simulator.catalog[name] = replace(simulator.catalog[name], tokenizer="Other")
    return simulator


def weighed(simulator: Simulator, *models: str) -> list[CheckLine]:
    inputs = Inputs(simulator.admin_key, simulator.inference_key, models, 1.0, site_name="site")
    return check_token_smoke(inputs, Facts(inputs))


def factors() -> list[int]:
    """What runs have noted of endpoints."""
    return [each.factor for each in carried_factors(user_counts_file(), time.time())]


def test_three_kinds_of_text_are_weighed_each_as_long_as_the_slices_of_a_prompt() -> None:
    assert {kind: len(text.encode()) for kind, text in samples().items()} == {
        "prose": SAMPLE_BYTES,
        "code": SAMPLE_BYTES,
        "opaque": SAMPLE_BYTES,
    }


def test_the_check_runs_by_default_and_after_those_that_make_no_key() -> None:
    assert "token_smoke" in DEFAULT
    assert "token_smoke" in BUILT_IN
    assert "token_smoke" in MAKE_KEYS


@pytest.mark.wire
def test_a_model_of_a_known_tokenizer_is_not_called(simulator: Simulator) -> None:
    assert weighed(simulator, "openai/gpt-4.1-nano", "anthropic/claude-sonnet-4.5", "nobody/knows-it") == []
    assert simulator.requests == []


@pytest.mark.wire
def test_texts_are_weighed_on_one_endpoint_and_the_line_says_what_that_cost(unknown: Simulator) -> None:
    (line,) = weighed(unknown, MODEL)
    assert line.ok is True
    cost_usd = unknown.bill().total_usd
    assert 0 < cost_usd < Decimal("0.01")
    assert f"${cost_usd.normalize():f}" in line.detail
    assert all(f"{kind} 0." in line.detail for kind in samples())
    bodies = [json.loads(request.body) for request in unknown.requests]
    assert [body["max_tokens"] for body in bodies] == [1, 1, 1]
    assert len({body["provider"]["only"][0] for body in bodies}) == 1
    assert provision.list_keys(unknown.admin_key, name="site:token-smoke") == []
    assert not user_counts_file().exists()


@pytest.mark.wire
def test_a_model_that_counts_more_than_estimated_is_handed_on_and_counts_once_two_runs_saw_it(
    unknown: Simulator,
) -> None:
    """A token a byte: more than the measured bound, so its prompts count by their bytes."""
    unknown.scenario = Scenario(tokenizer=Tokenizer.BYTES)
    (line,) = weighed(unknown, MODEL)
    assert line.ok is None
    assert "prose 2." in line.detail or "prose 3." in line.detail
    assert factors() == []
    weighed(unknown, MODEL)
    assert factors() == [BY_BYTES]
    (carried,) = carried_factors(user_counts_file(), time.time())
    assert (carried.model, carried.upstream) == (MODEL, origin(unknown.base_url))


@pytest.mark.wire
def test_a_model_that_always_reasons_is_not_weighed(unknown: Simulator) -> None:
    (line,) = weighed(unknown, ALWAYS_REASONS)
    assert line.is_skipped
    assert unknown.requests == []


@pytest.mark.wire
def test_a_call_that_is_refused_is_a_failure_and_its_key_is_deleted(unknown: Simulator) -> None:
    fault = make_fault("http_error", {"status": 400, "message": "no"})
    unknown.scenario = Scenario(faults=(FaultRule(fault, api="chat"),))
    (line,) = weighed(unknown, MODEL)
    assert line.ok is False
    assert MODEL in line.failure
    assert provision.list_keys(unknown.admin_key, name="site:token-smoke") == []
