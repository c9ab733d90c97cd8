"""`agent-preflight preflight`."""

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from openrouter_sim import Simulator

UNSET = dict.fromkeys(
    ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS", "PREFLIGHT_BUDGET"), ""
)


def preflight(**variables: str) -> Result:
    return CliRunner().invoke(app, ["preflight"], env={**UNSET, **variables})


def test_missing_variables_are_named_in_their_order() -> None:
    assert "OPENROUTER_ADMIN_KEY" in preflight().stderr
    assert "OPENROUTER_API_KEY" in preflight(OR_ADMIN_KEY="k").stderr
    told = preflight(OR_ADMIN_KEY="k", OPENROUTER_API_KEY="k")
    assert (told.exit_code, "PREFLIGHT_MODELS" in told.stderr) == (1, True)


def test_a_budget_that_is_none_is_no_traceback() -> None:
    told = preflight(OR_ADMIN_KEY="k", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="m/x", PREFLIGHT_BUDGET="much")
    assert (told.exit_code, "PREFLIGHT_BUDGET" in told.stderr) == (1, True)


@pytest.mark.wire
def test_a_failed_check_is_exit_code_1_and_its_reason(simulator: Simulator) -> None:
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    told = preflight(**keys, PREFLIGHT_MODELS="no/such-model")
    assert told.exit_code == 1
    assert told.stderr.startswith("Preflight failed: ")


@pytest.mark.wire
def test_checks_that_pass_are_exit_code_0(simulator: Simulator) -> None:
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    told = preflight(**keys, PREFLIGHT_MODELS="openai/gpt-4.1-nano", PREFLIGHT_BUDGET="0.05")
    assert told.exit_code == 0, told.output
    assert "All preflight checks passed." in told.stdout
