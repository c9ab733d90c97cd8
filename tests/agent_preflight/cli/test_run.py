"""`agent-preflight run`."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from openrouter_sim import Simulator
from tests.agent_preflight.runner.conftest import agent

MODEL = "openai/gpt-4.1-nano"


def run(
    tmp_path: Path, *arguments: str, simulator: Simulator | None = None, command: list[str] | None = None
) -> Result:
    keys = {"OR_ADMIN_KEY": simulator.admin_key if simulator else "", "OPENROUTER_ADMIN_KEY": ""}
    options = ["--runs-dir", str(tmp_path / "runs"), "--sandbox", "process", "--skip-preflight", *arguments]
    return CliRunner().invoke(app, ["run", *options, "--", *(command or [sys.executable, "-V"])], env=keys)


def test_without_a_management_key_nothing_begins(tmp_path: Path) -> None:
    told = run(tmp_path, "--model", MODEL)
    assert (told.exit_code, "OR_ADMIN_KEY" in told.stderr) == (1, True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("wrong", [("--service", "los"), ("--run-id", "a", "--resume", "b"), ("--sandbox", "jail")])
def test_what_is_no_option_is_exit_code_2(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert run(tmp_path, *wrong).exit_code == 2


@pytest.mark.wire
def test_each_model_has_its_trial_and_the_command_line_is_the_agents(simulator: Simulator, tmp_path: Path) -> None:
    models = ("--model", f"{MODEL}=a", "--model", MODEL)
    told = run(tmp_path, *models, "--run-id", "r", simulator=simulator, command=agent("call(); say('agent_end')"))
    assert told.exit_code == 0, told.output
    assert "TOTAL" in told.output
    summaries = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs" / "r").glob("*/summary.json"))]
    assert [(each["alias"], each["preflight"]["calls"]) for each in summaries] == [("a", 1), ("gpt-4-1-nano", 1)]


@pytest.mark.wire
def test_an_agent_that_fails_is_exit_code_1_and_json_tells_of_it(simulator: Simulator, tmp_path: Path) -> None:
    told = run(tmp_path, "--model", f"{MODEL}=a", "--json", simulator=simulator, command=agent("sys.exit(3)"))
    assert told.exit_code == 1
    (row,) = [json.loads(line) for line in told.stdout.splitlines()]
    assert (row["alias"], row["error"]) == ("a", "the agent ended with exit code 3")
