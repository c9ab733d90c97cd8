"""The public function: its arguments reach the checks. What the checks do with them is tested in `checks/`."""

from typing import Any

import pytest

import agent_preflight
from agent_preflight.checks.proxy_path import NAME, PROBE
from agent_preflight.checks.report import failed, passed
from agent_preflight.preflight import PreflightError, preflight
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from tests.support.scripted_engine import ScriptedEngine


def seen(admin_key: str, or_key: str, models: list[str], budget: str, **options: Any) -> dict[str, Any]:
    """Return the context of a script's check in a preflight with these arguments."""
    facts: dict[str, Any] = {}

    def own(context: dict[str, Any]) -> tuple[str, bool, str]:
        facts.update(context)
        return "own", True, ""

    preflight(admin_key, or_key, models, budget, checks=[], custom_checks=[own], log_fn=lambda line: None, **options)
    return facts


def test_each_argument_reaches_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda key: (5.0, 9.0, 4.0))
    monkeypatch.setattr(agent_preflight, "get_available_models", lambda key: {"a/b": {}})
    assert seen(
        "admin",
        "inference",
        ["a/b", "c/d", "a/b"],
        "$0.50",
        docker_image="img",
        required_params={"a/b": "seed"},
        common_required_params=["tools"],
        site_name="site",
    ) == {
        "admin_key": "admin",
        "or_key": "inference",
        "models": ["a/b", "c/d"],
        "budget_per_model": 0.5,
        "checks": [],
        "docker_image": "img",
        "site_name": "site",
        "required_params": {"a/b": ["tools", "seed"], "c/d": ["tools"]},
        "balance": 5.0,
        "available_models": {"a/b": {}},
    }


def test_found_lines_come_first_and_their_failures_count() -> None:
    printed: list[str] = []
    found = [passed("Disk", "there is room"), failed("Network", "is missing", "The network is missing.")]
    with pytest.raises(PreflightError) as caught:
        preflight("admin", "key", [], 1, checks=[], found=found, log_fn=printed.append)
    assert caught.value.failures == ["The network is missing."]
    assert printed[4:6] == ["  [v] Disk  there is room", "  [x] Network  is missing"]
    assert preflight("a", "k", [], 1, checks=[], found=found, log_fn=printed.append, raise_on_failure=False) != []


def test_a_budget_that_is_not_an_amount_is_an_error_before_any_check() -> None:
    with pytest.raises(ConfigError, match="budget_per_model"):
        preflight("admin", "key", ["a/b"], "much", log_fn=lambda line: pytest.fail(line))


@pytest.mark.wire
def test_the_proxy_path_check_gets_run_container(
    simulator: Simulator, docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", "no-such-base")
    failures = preflight(
        simulator.admin_key, simulator.inference_key, [], 1, checks=["proxy_path"], raise_on_failure=False
    )
    assert len(failures) == 1
    assert failures[0].startswith(f"{NAME}: ")
    assert "hands it in" not in failures[0]
    assert PROBE
