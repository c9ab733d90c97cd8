"""Test keys, and the checks that make calls with them. How they stand in the report is in test_suite."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight import provision
from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine, passed
from agent_preflight.checks.smoke import (
    BOUND_TOKENS,
    cache_limit_usd,
    cache_prompt,
    check_bound_smoke,
    check_key_smoke,
    with_test_key,
)
from agent_preflight.checks.suite import BUILT_IN, DEFAULT
from agent_preflight.openrouter import http
from openrouter_sim import FaultRule, Scenario, Simulator
from openrouter_sim.faults import make_fault
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen

GOOD, BAD = "openai/gpt-4.1-nano", "openai/gpt-4.1-mini"
LISTED = {
    "tag": "t",
    "provider_name": "T",
    "context_length": 1000,
    "pricing": {"prompt": "0.000001", "completion": "0.000001"},
    "supported_parameters": ["max_tokens"],
}
Serve = Callable[[Script], ScriptedServer]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.wire
def test_a_test_key_has_a_limit_and_an_expiry_and_is_deleted(simulator: Simulator) -> None:
    inputs = Inputs(simulator.admin_key, simulator.inference_key, (), 1.0, site_name="site")

    def use(key: Secret) -> Iterator[CheckLine]:
        (info,) = provision.list_keys(simulator.admin_key, name="site:try")
        assert info.limit_usd == Decimal("0.01")
        assert info.expires_at is not None
        assert provision.get_usage(key) == 0.0
        yield passed("Try", "used")

    assert with_test_key(inputs, "Try", "try", Decimal("0.01"), use) == [passed("Try", "used")]
    assert provision.list_keys(simulator.admin_key, name="site:try") == []


@pytest.mark.wire
def test_a_test_key_is_requested_once_because_others_may_have_its_name(serve: Serve) -> None:
    """Keys of a lost answer are found by name and deleted, and another preflight's test key has the same name."""
    server = serve(lambda _: None)
    with pytest.raises(UpstreamError, match="attempts: 1"):
        with_test_key(Inputs("a", "k", (), 1.0), "Try", "try", Decimal("0.01"), lambda _: [])
    assert server.asked("POST", "/keys") == 1
    assert server.asked("DELETE", "/keys/h") == 0


@pytest.mark.wire
def test_a_test_key_that_could_not_be_deleted_after_a_failed_call_is_named(serve: Serve) -> None:
    made = 201, {"key": "sk-made", "data": {"hash": "h"}}
    server = serve(lambda seen: made if (seen.method, seen.path) == ("POST", "/keys") else (503, {}))
    inputs = Inputs("admin", "key", (), 1.0, site_name="site")
    (line,) = check_key_smoke(inputs, Facts(inputs))
    assert line.failure.startswith("Key provisioning failed: the call was answered with HTTP 503; the test key 'site:")
    assert "could not be deleted; it expires at 20" in line.failure
    assert server.asked("DELETE", "/keys/h") > 1


@pytest.mark.wire
@pytest.mark.parametrize("body", [b"", {}, {"choices": None}, [1], {"error": {"message": "late error"}}])
def test_a_200_that_is_not_a_completion_is_an_error(serve: Serve, body: Any) -> None:
    serve(lambda _: (200, body))
    with pytest.raises(UpstreamError, match="no completion"):
        smoke.chat(Inputs("a", "k", (), 1.0), Secret("k"), {})


def test_the_key_of_the_key_check_may_spend_one_cent() -> None:
    assert str(smoke.KEY_LIMIT_USD) == "0.01"


def test_an_admin_key_that_cannot_be_sent_fails_the_key_check_and_is_not_shown() -> None:
    inputs = Inputs("admin\nkey", "key", (), 1.0)
    (line,) = check_key_smoke(inputs, Facts(inputs))
    assert line.ok is False
    assert line.failure.startswith("Key provisioning failed: ")
    assert "admin" not in line.failure


def test_the_limit_of_the_cache_check_is_never_below_two_cents() -> None:
    assert cache_limit_usd(100, Decimal(0)) == Decimal("0.02")


def test_the_limit_covers_two_uncached_prompts_rounded_up_to_a_cent() -> None:
    assert cache_limit_usd(128, Decimal(3)) == Decimal("0.03")
    assert cache_limit_usd(365, Decimal(15)) == Decimal("0.19")


def test_an_unknown_price_counts_as_a_high_one() -> None:
    assert cache_limit_usd(365, None) == cache_limit_usd(365, Decimal(20))


def test_the_prompt_has_numbered_lines_of_about_thirteen_tokens() -> None:
    lines = cache_prompt(120).splitlines()
    assert len(set(lines)) == 120
    assert 50 <= len(lines[60]) <= 65


def bound_lines(simulator: Simulator, *models: str) -> list[CheckLine]:
    inputs = Inputs(simulator.admin_key, simulator.inference_key, models, 1.0, site_name="site")
    return check_bound_smoke(inputs, Facts(inputs))


def quarantined() -> set[tuple[str, str]]:
    rows = QuarantineFile(user_quarantine_file()).read()
    assert all(each.upstream.startswith("http://127.0.0.1:") for each in rows)
    return {(each.model, each.tag) for each in rows}


@pytest.mark.wire
def test_each_endpoint_is_called_once_and_without_fallbacks(simulator: Simulator) -> None:
    (line,) = bound_lines(simulator, GOOD)
    assert (line.ok, line.detail) == (True, "kept by openai, azure")
    bodies = [json.loads(received.body) for received in simulator.requests]
    assert sorted(body["provider"]["only"] for body in bodies) == [["azure"], ["openai"]]
    assert {body["max_tokens"] for body in bodies} == {BOUND_TOKENS}
    assert quarantined() == set()
    assert provision.list_keys(simulator.admin_key, name="site:bound-smoke") == []


@pytest.mark.wire
def test_endpoints_on_the_quarantine_list_are_not_called_again(simulator: Simulator) -> None:
    upstream = origin(http.resolve_base_url(None))
    QuarantineFile(user_quarantine_file()).add(QuarantinedEndpoint(GOOD, "azure", "test", 1.0, upstream))
    (line,) = bound_lines(simulator, GOOD)
    assert line.detail == "kept by openai"


@pytest.mark.wire
def test_a_model_fails_if_all_its_endpoints_exceed_the_bound_and_they_are_quarantined(
    simulator: Simulator,
) -> None:
    simulator.scenario = Scenario(faults=(FaultRule(make_fault("wrong_bound"), model=BAD),))
    good, bad = bound_lines(simulator, GOOD, BAD)
    assert (good.ok, bad.ok) == (True, False)
    assert f"answered with {4 * BOUND_TOKENS} tokens to a bound of {BOUND_TOKENS}" in bad.detail
    assert BAD in bad.failure
    assert quarantined() == {(BAD, "openai"), (BAD, "azure")}


@pytest.mark.wire
def test_a_model_with_another_endpoint_that_keeps_the_bound_is_a_warning(simulator: Simulator) -> None:
    """The run can use the other endpoint. The quarantined model has no routing suffix."""
    model = simulator.catalog[GOOD]
    first, second = model.endpoints
    simulator.catalog[GOOD] = replace(model, endpoints=(replace(first, honours_bound=False), second))
    warned, passed = bound_lines(simulator, f"{GOOD}:nitro")
    assert (warned.ok, passed.ok) == (None, True)
    assert passed.detail == "kept by azure"
    assert warned.detail.endswith(f"quarantine --clear {GOOD} TAG")
    assert quarantined() == {(GOOD, "openai")}


@pytest.mark.wire
def test_endpoints_that_do_not_list_the_bound_are_not_called(simulator: Simulator) -> None:
    model = simulator.catalog[GOOD]
    simulator.catalog[GOOD] = replace(
        model, endpoints=tuple(replace(each, supported_parameters=()) for each in model.endpoints)
    )
    (line,) = bound_lines(simulator, GOOD)
    assert line.ok is None
    assert simulator.requests == []


@pytest.mark.wire
def test_an_endpoint_that_refuses_the_call_is_reported_and_not_quarantined(simulator: Simulator) -> None:
    simulator.scenario = Scenario(faults=(FaultRule(make_fault("http_error")),))
    lines = bound_lines(simulator, GOOD)
    assert [line.ok for line in lines] == [None, None]
    assert all("could not be called" in line.detail for line in lines)
    assert quarantined() == set()


@pytest.mark.wire
def test_a_model_without_endpoints_fails_before_a_key_is_made(simulator: Simulator) -> None:
    (line,) = bound_lines(simulator, "no/such-model")
    assert line.failure.startswith("Output bound not checked: no/such-model has no endpoint that is in use; ")
    assert line.failure.endswith(" No call was made.")
    assert simulator.requests == []


@pytest.mark.wire
@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": "many"}])
def test_an_answer_without_a_token_count_is_a_warning(serve: Serve, usage: object) -> None:
    def script(seen: Seen) -> tuple[int, Any]:
        match seen.method, seen.path:
            case "GET", "/models/m/x/endpoints":
                return 200, {"data": {"endpoints": [LISTED, {**LISTED, "tag": "u"}, {"tag": 3}, "x"]}}
            case "POST", "/keys":
                return 201, {"key": "sk-made", "data": {"hash": "h"}}
            case "POST", _:
                return 200, {"choices": [], "usage": usage}
        return 404, {}

    server = serve(script)
    inputs = Inputs("admin", "key", ("m/x",), 1.0)
    lines = check_bound_smoke(inputs, Facts(inputs))[:2]
    assert [(line.ok, line.detail) for line in lines] == [
        (None, f"{tag} could not be called: the answer reports no tokens") for tag in ("t", "u")
    ]
    assert quarantined() == set()
    (made,) = (seen.body for seen in server.seen if seen.path == "/keys" and seen.method == "POST")
    assert made["limit"] == 0.1, "five cents for each endpoint"


@pytest.mark.wire
def test_without_a_test_key_no_call_is_made(serve: Serve) -> None:
    listed = {"data": {"endpoints": [LISTED]}}
    server = serve(lambda seen: (200, listed) if seen.method == "GET" else (403, {}))
    inputs = Inputs("admin", "key", ("m/x",), 1.0)
    (line,) = check_bound_smoke(inputs, Facts(inputs))
    assert line.ok is False
    assert server.asked("POST", "/chat/completions") == 0


def test_the_bound_check_runs_only_if_it_is_named() -> None:
    assert "bound_smoke" in BUILT_IN
    assert "bound_smoke" not in DEFAULT
