"""`agent-preflight preflight`."""

import pytest

from openrouter_sim import Simulator
from tests.agent_preflight.cli.invoke import Told, invoke

NAMES = ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS", "PREFLIGHT_BUDGET")


def preflight(**variables: str) -> Told:
    env: dict[str, str | None] = {**dict.fromkeys(NAMES), **variables}
    return invoke("preflight", env=env)


def test_variables_are_asked_for_in_order_on_stderr() -> None:
    known: dict[str, str] = {}
    for name, value in [("OR_ADMIN_KEY", "a"), ("OPENROUTER_API_KEY", "k"), ("PREFLIGHT_MODELS", "m/m")]:
        told = preflight(**known)
        assert (told.exit_code, told.stdout) == (1, "")
        assert name in told.stderr
        known[name] = value


def test_a_variable_without_a_value_is_as_good_as_none() -> None:
    told = preflight(OR_ADMIN_KEY="", OPENROUTER_ADMIN_KEY="a", OPENROUTER_API_KEY="")
    assert told.exit_code == 1
    assert "OPENROUTER_API_KEY" in told.stderr


def test_a_budget_that_is_no_number_is_a_sentence() -> None:
    told = preflight(OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="m", PREFLIGHT_BUDGET="much")
    assert told.exit_code == 1
    assert "PREFLIGHT_BUDGET" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.wire
def test_a_failed_check_exits_with_1_and_says_so(simulator: Simulator) -> None:
    told = preflight(
        OR_ADMIN_KEY=simulator.admin_key, OPENROUTER_API_KEY=simulator.inference_key, PREFLIGHT_MODELS="no/such"
    )
    assert told.exit_code == 1
    assert "PREFLIGHT CHECKS" in told.stdout
    assert "PREFLIGHT FAILED (" in told.stdout
    assert told.stderr.startswith("Preflight failed: Preflight failed (")
    assert simulator.admin_key not in told.output
    assert simulator.inference_key not in told.output


@pytest.mark.wire
def test_passed_checks_exit_with_0(simulator: Simulator) -> None:
    told = preflight(
        OPENROUTER_ADMIN_KEY=simulator.admin_key,
        OPENROUTER_API_KEY=simulator.inference_key,
        PREFLIGHT_MODELS="openai/gpt-4.1-nano, openai/gpt-4.1-mini",
    )
    assert told.exit_code == 0, told.output
    assert "2 models x $0.25 = $0.50" in told.stdout
    assert "All preflight checks passed." in told.stdout
    assert all(key.deleted for key in simulator.bill().keys.values() if "smoke" in key.name)
