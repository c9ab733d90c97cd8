"""Anthropic's Claude Code from npm, as `claude --print`: the messages API, as a stream, and without one after an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import pytest

from openrouter_sim import Rule, Scenario, ToolCall
from tests.clients.program import Program
from tests.clients.stage import ENDED, LONG, POOR_USD, RETRIES_MAX, WORDS, Stage

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]  # the first test installs it

MODEL = "anthropic/claude-haiku-4.5"
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}
SMALL_USD = "0.22"
"""Enough for a few of its calls."""


LOOK = Rule(tool_calls=(ToolCall("Bash", '{"command": "echo the plan", "description": "Show the plan"}'),))
ANSWER = Rule(role="tool", text=WORDS.text)

Start = Callable[[str], AbstractAsyncContextManager[Program]]


@pytest.fixture
def claude(claude_command: list[str], stage: Stage) -> Start:
    """Start Claude Code at one task for an account, told where to ask as its users tell it."""

    def start(account: str) -> AbstractAsyncContextManager[Program]:
        asked = {
            "ANTHROPIC_BASE_URL": stage.anthropic,
            "ANTHROPIC_AUTH_TOKEN": stage.tokens[account],
            "ANTHROPIC_API_KEY": "",
            "ANTHROPIC_MODEL": MODEL,
        }
        return stage.run([*claude_command, "--print", "Read the plan."], {**QUIET, **asked})

    return start


async def test_it_works_and_is_posted_as_billed(stage: Stage, claude: Start) -> None:
    """Two turns, a command between them; what the first wrote to the cache and the second read of it is posted as such."""
    stage.sim.scenario = Scenario(replies=(ANSWER, LOOK))
    async with claude("a") as client:
        ended = await client.end()
    assert (ended.code, ended.out.strip()) == (0, WORDS.text), ended.said
    assert await stage.posted_as_billed() == 2
    first, second = stage.cost_lines()
    assert first["cache_write_tokens"] == second["cached_tokens"] > 0


async def test_it_stops_when_refused(stage: Stage, claude: Start) -> None:
    """It says why, and tries again at most twice."""
    await stage.open("poor", POOR_USD)
    async with claude("poor") as client:
        ended = await client.end()
    stage.check_refusal(ended, "poor")
    assert stage.sim.requests == []


async def test_it_stops_once_its_budget_is_spent(stage: Stage, claude: Start) -> None:
    """It works for as long as there is money, and ends when the next turn is refused."""
    stage.sim.scenario = Scenario(replies=(LOOK,))
    await stage.open("small", SMALL_USD)
    async with claude("small") as client:
        ended = await client.end()
    stage.check_refusal(ended, "small")
    assert await stage.posted_as_billed("small") >= 2
    assert stage.billed_usd() <= Decimal(SMALL_USD)


async def test_it_ends_with_an_error_when_cut(stage: Stage, claude: Start) -> None:
    """Half a text does not pass for a whole one; the second try, without a stream, is refused."""
    stage.sim.scenario = LONG
    async with claude("a") as client:
        await stage.freeze_once_heard(b"text_delta")
        ended = await client.end()
    assert ended.code == 1, ended.said
    assert ENDED in ended.said
    assert stage.refused() <= RETRIES_MAX
    assert await stage.posted_as_billed() == 1
