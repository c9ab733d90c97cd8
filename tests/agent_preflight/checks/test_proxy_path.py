"""A probe in a sealed container calls a model as an agent would."""

import ast
import os
import tempfile
from typing import Any

import pytest

from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.proxy_path import PROBE, check_proxy_path, verdict
from agent_preflight.docker.images import image_exists
from agent_preflight.models import RunResult
from agent_preflight.runner.api import run_container
from agent_preflight.runs.folder import tries_dir
from openrouter_sim import Simulator
from tests.support.cases import each

WELL = {"status": 200, "reason": "", "budget": True, "sealed": True}
BASE = os.environ.get("PREFLIGHT_TEST_BASE", "local/python:base")


def result(**more: Any) -> RunResult:
    made = RunResult("proxy-path", "m/x", 0.02, **more)
    made.preflight.update({"posted_usd": "0.0000011", "cleanup": {"container": "ok"}})
    return made


def test_a_call_from_a_sealed_container_passes_with_its_cost() -> None:
    line = verdict(result(), WELL)
    assert line.ok is True
    assert "$0.0000011" in line.detail


@each(
    "probe, words",
    [
        ({**WELL, "status": 402, "reason": "spent"}, "answered with 402: spent"),
        ({**WELL, "status": 0, "reason": "OSError()"}, "OSError()"),
        ({**WELL, "budget": False}, "no budget.txt"),
        ({**WELL, "sealed": False}, "another way out"),
        (None, "the probe printed nothing"),
    ],
)
def test_a_failed_call_a_missing_budget_file_and_another_way_out_are_failures(
    probe: dict[str, Any] | None, words: str
) -> None:
    line = verdict(result(), probe)
    assert line.ok is False
    assert words in line.failure


def test_a_trial_that_did_not_start_fails_with_its_error() -> None:
    assert "no gate" in verdict(result(error="no gate"), None).failure


def test_an_unconfirmed_clean_up_is_a_warning() -> None:
    left = result()
    left.preflight["cleanup"]["container"] = "unverified"
    line = verdict(left, WELL)
    assert (line.ok, "container" in line.detail) == (None, True)


def test_the_probe_is_a_program_without_imports_of_ours() -> None:
    imports = [node for node in ast.walk(ast.parse(PROBE)) if isinstance(node, ast.Import)]
    assert [name.name for node in imports for name in node.names] == [
        *("json", "os", "socket"),
        *("urllib.error", "urllib.request"),
    ]


@pytest.mark.wire
def test_without_an_engine_it_is_a_failure_with_its_reason(no_engine: str) -> None:
    inputs = Inputs("admin", "key", (), 1.0, run_trial=run_container)
    (line,) = check_proxy_path(inputs, Facts(inputs))
    assert line.failure.startswith("Proxy path: ")
    assert f"no Docker engine answers at {no_engine}" in line.failure


@pytest.mark.docker
def test_the_whole_path_works_and_leaves_nothing(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not image_exists(BASE):
        (pytest.fail if os.environ.get("PREFLIGHT_REQUIRE_DOCKER") == "1" else pytest.skip)(f"{BASE} is not present")
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", BASE)
    place = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    inputs = Inputs(simulator.admin_key, simulator.inference_key, (), 1.0, run_trial=run_container)
    (line,) = check_proxy_path(inputs, Facts(inputs))
    assert line.ok is True, line
    assert simulator.bill().total_usd > 0
    names = [key.name for key in simulator.bill().keys.values()]
    assert any(name.startswith("agent-preflight:proxy-path-") for name in names)
    assert list(tries_dir().iterdir()) == list(place.iterdir()) == []
