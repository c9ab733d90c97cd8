"""mini-swe-agent with each of its two model classes: the client that tries again longest when it is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal

import pytest

from openrouter_sim import Rule, Scenario, ToolCall
from tests.clients.program import ProgramResult
from tests.clients.stage import LONG, RETRIES_MAX, Stage
from tests.support.proxy_world import MODEL

pytestmark = pytest.mark.wire

AGENT = """
import sys, yaml
from minisweagent import package_dir
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment

kind, model, base_url = sys.argv[1:]
if kind == "openrouter":
    from minisweagent.models.openrouter_model import OpenRouterModel
    asked = OpenRouterModel(model_name=model)
    asked._api_url = base_url + "/chat/completions"  # in its code, and nowhere to be set
else:
    from minisweagent.models.litellm_model import LitellmModel
    asked = LitellmModel(model_name="openrouter/" + model)
settings = yaml.safe_load((package_dir / "config" / "mini.yaml").read_text())["agent"]
settings = {name: settings[name] for name in ("system_template", "instance_template")}
print(DefaultAgent(asked, LocalEnvironment(), cost_limit=0, **settings).run("Read the plan."))
"""
LOOK = Rule(tool_calls=(ToolCall("bash", '{"command": "echo the plan"}'),))
SUBMIT = Rule(
    role="tool", tool_calls=(ToolCall("bash", '{"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo read"}'),)
)
SMALL_USD = "0.0015"
"""Enough for a few of its calls."""
KINDS = pytest.mark.parametrize("kind", ["litellm", "openrouter"])


def agent(stage: Stage, kind: str) -> list[str]:
    return [sys.executable, "-c", AGENT, kind, MODEL, stage.v1]


def settings(stage: Stage, name: str = "a") -> Mapping[str, str]:
    return {
        "OPENROUTER_API_BASE": stage.v1,
        "OPENROUTER_API_KEY": stage.tokens[name],
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_SILENT_STARTUP": "1",
    }


async def end(stage: Stage, kind: str, name: str = "a") -> ProgramResult:
    async with stage.run(agent(stage, kind), settings(stage, name)) as client:
        return await client.end()


@KINDS
async def test_it_works_and_is_posted_as_billed(stage: Stage, kind: str) -> None:
    """Two turns, a command in each, and the answer is submitted."""
    stage.sim.scenario = Scenario(replies=(SUBMIT, LOOK))
    ended = await end(stage, kind)
    assert ended.code == 0, ended.said
    assert "Submitted" in ended.out
    assert await stage.posted_as_billed() == 2


@KINDS
async def test_it_stops_soon_once_its_budget_is_spent(stage: Stage, kind: str) -> None:
    """It goes on for as long as there is money; after the first refusal it tries again at most twice."""
    stage.sim.scenario = Scenario(replies=(LOOK,))
    await stage.open("small", SMALL_USD)
    ended = await end(stage, kind, "small")
    assert ended.code == 1
    assert 1 <= stage.refused("small") <= 1 + RETRIES_MAX
    assert await stage.posted_as_billed("small") >= 2
    assert stage.billed_usd() <= Decimal(SMALL_USD)


@KINDS
async def test_it_ends_with_an_error_when_frozen_in_a_call(stage: Stage, kind: str) -> None:
    """It never streams: the call under way is answered with the refusal, and what follows is refused too."""
    stage.sim.scenario = LONG
    async with stage.run(agent(stage, kind), settings(stage)) as client:
        await stage.sim.until(lambda: bool(stage.sim.requests))
        await stage.freeze()
        ended = await client.end()
    assert ended.code == 1
    assert stage.refused() <= RETRIES_MAX
    assert len(stage.sim.requests) == 1
    assert await stage.posted_as_billed() == 1
