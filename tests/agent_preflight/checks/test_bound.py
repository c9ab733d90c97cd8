"""The probe of the output bound: whom it asks, whom it believes, whom it has quarantined."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import provision
from agent_preflight.checks.bound import BOUND_TOKENS, check_bound_smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine
from agent_preflight.checks.suite import BUILT_IN, DEFAULT
from openrouter_sim import FaultRule, Scenario, Simulator
from openrouter_sim.faults import make_fault
from preflight_proxy.base.config import user_quarantine_file
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen

pytestmark = pytest.mark.wire

GOOD, BAD = "openai/gpt-4.1-nano", "openai/gpt-4.1-mini"
Serve = Callable[[Script], ScriptedServer]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def look(simulator: Simulator, *models: str) -> list[CheckLine]:
    inputs = Inputs(simulator.admin_key, simulator.inference_key, models, 1.0, site_name="site")
    return check_bound_smoke(inputs, Facts(inputs))


def quarantined() -> set[tuple[str, str]]:
    rows = QuarantineFile(user_quarantine_file()).read()
    assert all(each.upstream.startswith("http://127.0.0.1:") for each in rows)
    return {(each.model, each.tag) for each in rows}


def test_each_endpoint_is_asked_once_and_alone(simulator: Simulator) -> None:
    (line,) = look(simulator, GOOD)
    assert (line.ok, line.detail) == (True, "kept by openai, azure")
    bodies = [json.loads(received.body) for received in simulator.requests]
    assert sorted(body["provider"]["only"] for body in bodies) == [["azure"], ["openai"]]
    assert {body["max_tokens"] for body in bodies} == {BOUND_TOKENS}
    assert quarantined() == set()
    assert provision.list_keys(simulator.admin_key, name="site:bound-smoke") == []


def test_endpoints_that_answer_with_more_are_quarantined_and_fail_a_model_that_has_no_other(
    simulator: Simulator,
) -> None:
    simulator.scenario = Scenario(faults=(FaultRule(make_fault("wrong_bound"), model=BAD),))
    good, bad = look(simulator, GOOD, BAD)
    assert (good.ok, bad.ok) == (True, False)
    assert f"answered with {4 * BOUND_TOKENS} tokens to a bound of {BOUND_TOKENS}" in bad.detail
    assert BAD in bad.failure
    assert quarantined() == {(BAD, "openai"), (BAD, "azure")}


def test_one_that_ignores_it_beside_one_that_keeps_it_is_a_warning(simulator: Simulator) -> None:
    """The run can go on without it; a routing suffix is no part of what is quarantined."""
    model = simulator.catalog[GOOD]
    first, second = model.endpoints
    simulator.catalog[GOOD] = replace(model, endpoints=(replace(first, honours_bound=False), second))
    warned, passed = look(simulator, f"{GOOD}:nitro")
    assert (warned.ok, passed.ok) == (None, True)
    assert passed.detail == "kept by azure"
    assert quarantined() == {(GOOD, "openai")}


def test_endpoints_that_do_not_list_the_bound_are_not_asked(simulator: Simulator) -> None:
    model = simulator.catalog[GOOD]
    simulator.catalog[GOOD] = replace(
        model, endpoints=tuple(replace(each, supported_parameters=()) for each in model.endpoints)
    )
    (line,) = look(simulator, GOOD)
    assert line.ok is None
    assert simulator.requests == []


def test_what_could_not_be_asked_is_told_and_not_quarantined(simulator: Simulator) -> None:
    simulator.scenario = Scenario(faults=(FaultRule(make_fault("http_error")),))
    lines = look(simulator, GOOD)
    assert [line.ok for line in lines] == [None, None]
    assert all("could not be asked" in line.detail for line in lines)
    assert quarantined() == set()


def test_an_unknown_model_fails(simulator: Simulator) -> None:
    (line,) = look(simulator, "no/such-model")
    assert (line.ok, bool(line.failure)) == (False, True)


@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": "many"}])
def test_an_answer_without_a_count_proves_nothing(serve: Serve, usage: object) -> None:
    def script(seen: Seen) -> tuple[int, Any]:
        match seen.method, seen.path:
            case "GET", "/models/m/x/endpoints":
                listed = [{"tag": "t", "supported_parameters": ["max_tokens"]}, {"tag": 3}, "x"]
                return 200, {"data": {"endpoints": listed}}
            case "POST", "/keys":
                return 201, {"key": "sk-made", "data": {"hash": "h"}}
            case "POST", _:
                return 200, {"choices": [], "usage": usage}
        return 404, {}

    serve(script)
    inputs = Inputs("admin", "key", ("m/x",), 1.0)
    (line,) = check_bound_smoke(inputs, Facts(inputs))
    assert (line.ok, "no tokens" in line.detail) == (None, True)
    assert quarantined() == set()


def test_without_a_test_key_nothing_is_asked(serve: Serve) -> None:
    listed = {"data": {"endpoints": [{"tag": "t", "supported_parameters": ["max_tokens"]}]}}
    server = serve(lambda seen: (200, listed) if seen.method == "GET" else (403, {}))
    inputs = Inputs("admin", "key", ("m/x",), 1.0)
    (line,) = check_bound_smoke(inputs, Facts(inputs))
    assert line.ok is False
    assert server.asked("POST", "/chat/completions") == 0


def test_it_runs_only_where_it_is_named() -> None:
    assert "bound_smoke" in BUILT_IN
    assert "bound_smoke" not in DEFAULT
