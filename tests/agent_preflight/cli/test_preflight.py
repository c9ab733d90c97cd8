"""`agent-preflight preflight`."""

import pytest

from openrouter_sim import Simulator
from tests.support.cli_commands import CommandResult, invoke

NAMES = ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS", "PREFLIGHT_BUDGET")


def preflight(**variables: str) -> CommandResult:
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
    assert told.stderr == "Preflight failed: mend the problem above, then run this again.\n"
    assert "not run: they make test keys" in told.stdout
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
    assert "All preflight checks passed, with 1 warning." in told.stdout
    assert all(key.deleted for key in simulator.bill().keys.values() if "smoke" in key.name)


@pytest.mark.wire
def test_an_openrouter_that_cannot_be_reached_is_told_once_with_the_cause_first() -> None:
    told = preflight(
        OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="m/m", OPENROUTER_BASE_URL="http://127.0.0.1:1/v1"
    )
    assert told.exit_code == 1
    said = "Cannot reach OpenRouter at http://127.0.0.1:1/v1: connection refused."
    assert told.stderr == "Preflight failed: mend the problem above, then run this again.\n"
    assert "PREFLIGHT FAILED (1 issue):" in told.stdout
    assert told.stdout.count(f"x {said} Check OPENROUTER_BASE_URL and your network. Nothing was spent.\n") == 1
    assert told.output.count("connection refused") == 2
    assert "m/m" not in told.output


@pytest.mark.wire
def test_several_failures_are_not_told_again_below_the_report(simulator: Simulator) -> None:
    told = preflight(OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="openai/gpt-41-nano")
    assert (told.exit_code, told.stderr) == (1, "Preflight failed: mend the 3 problems above, then run this again.\n")
    for said in ("OpenRouter refuses the management key (401: ", "OpenRouter refuses the inference key (401: "):
        assert told.stdout.count(said) == 1
    assert "did you mean openai/gpt-4.1-nano, " in told.stdout
    assert not any(key.name.startswith("agent-preflight:") for key in simulator.bill().keys.values())
