"""Clients from npm as they come, run as agents: what the runner makes of their input, their retries and their errors."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from openrouter_sim import FaultRule, Rule, Scenario, make_fault
from tests.agent_preflight.runner.conftest import MODEL, Field
from tests.clients.npm import CODEX, PI, command

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]  # the first test of each installs it

SAYS = "The plan was read."
PI_AGENT = """
import json, os, pathlib, sys
home = pathlib.Path.cwd() / "home"; home.mkdir()
providers = {"openrouter": {"baseUrl": os.environ["OPENROUTER_BASE_URL"]}}
(home / "models.json").write_text(json.dumps({"providers": providers}))
os.environ.update(PI_CODING_AGENT_DIR=str(home), HOME=str(home), PI_OFFLINE="1")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Tells pi where to ask, and becomes it."""
PI_OPTIONS = ("--provider", "openrouter", "--model", MODEL, "--no-session")
CODEX_AGENT = '''
import os, pathlib, sys
home = pathlib.Path.cwd() / "home"; home.mkdir()
(home / "config.toml").write_text(f"""
model = "openai/gpt-5-mini"
model_provider = "preflight"
check_for_update_on_startup = false
[model_providers.preflight]
name = "preflight"
base_url = "{os.environ['OPENROUTER_BASE_URL']}"
env_key = "OPENROUTER_API_KEY"
wire_api = "responses"
[analytics]
enabled = false
[features]
plugins = false
apps = false
remote_plugin = false
""")
os.environ.update(CODEX_HOME=str(home), HOME=str(home))
os.execv(sys.argv[1], sys.argv[1:])
'''
"""Tells Codex where to ask, and becomes it."""
CODEX_OPTIONS = ("exec", "--skip-git-repo-check", "--sandbox", "read-only")


def run(trials: Field, agent: str, *argv: str) -> tuple[Any, list[dict[str, Any]]]:
    """Run a client without a prompt on its input; returns its result and its events."""
    events: list[dict[str, Any]] = []
    (result,) = trials.run(
        {"a": ""},
        command=[sys.executable, "-c", agent, *argv],
        on_event=events.append,
        budget_usd=0.5,
        timeout_s=90,
        idle_timeout_s=30,
    )
    return result, events


def test_pi_reads_its_input_to_the_end_and_then_works(trials: Field) -> None:
    trials.simulator.scenario = Scenario(replies=(Rule(text=SAYS),))
    result, events = run(trials, PI_AGENT, *command(PI), *PI_OPTIONS, "-p", "Read the plan.")
    assert (result.error, result.preflight["calls"]) == (None, 1)
    assert events[-1]["data"] == SAYS


def test_codex_reads_its_input_to_the_end_and_then_works(trials: Field) -> None:
    trials.simulator.scenario = Scenario(replies=(Rule(text=SAYS),))
    result, events = run(trials, CODEX_AGENT, *command(CODEX), *CODEX_OPTIONS, "Read the plan.")
    assert (result.error, result.preflight["calls"]) == (None, 1)
    assert events[-1]["data"] == SAYS


def refused(message: str, times: int | None = None) -> Scenario:
    """A refusal that passes down as it is, so often; pi asks again where it says "overloaded"."""
    refusal = make_fault("http_error", {"status": 400, "message": message})
    return Scenario(replies=(Rule(text=SAYS),), faults=(FaultRule(refusal, api="chat", times=times),))


def test_pi_goes_on_after_its_automatic_retry(trials: Field) -> None:
    """It says that it has ended, waits two seconds, and asks again."""
    trials.simulator.scenario = refused("The model is overloaded.", times=1)
    result, events = run(trials, PI_AGENT, *command(PI), *PI_OPTIONS, "--mode", "json", "Read the plan.")
    types = [event["type"] for event in events]
    assert types.index("agent_end") < types.index("auto_retry_start") < len(types) - 1
    assert (result.error, result.preflight["ended_by"]) == (None, "agent_end")
    assert events[-1]["messages"][-1]["content"][0]["text"] == SAYS


def test_pi_that_ends_with_an_error_has_failed_though_it_exits_with_0(trials: Field) -> None:
    trials.simulator.scenario = refused("The plan is not for models.")
    result, _ = run(trials, PI_AGENT, *command(PI), *PI_OPTIONS, "--mode", "json", "Read the plan.")
    assert "the agent's last message is an error: 400" in result.error
    assert "The plan is not for models." in result.error
