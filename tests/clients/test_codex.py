"""OpenAI's Codex from npm, as `codex exec`: the responses API, always as a stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import pytest

from openrouter_sim import Rule, Scenario, ToolCall
from tests.clients.program import Program
from tests.clients.stage import ENDED, LONG, POOR_USD, RETRIES_MAX, WORDS, Stage

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]  # the first test installs it

CONFIG = """
model = "openai/gpt-5-mini"
model_provider = "preflight"
check_for_update_on_startup = false

[model_providers.preflight]
name = "preflight"
base_url = "{base_url}"
env_key = "OPENROUTER_API_KEY"
wire_api = "responses"

[analytics]
enabled = false

[features]
plugins = false
apps = false
remote_plugin = false
"""
SMALL_USD = "0.02"
"""Enough for a few of its calls."""


LOOK = Rule(tool_calls=(ToolCall("exec_command", '{"cmd": "echo the plan"}'),))
ANSWER = Rule(role="tool", text=WORDS.text)

Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture
def codex(codex_command: list[str], stage: Stage) -> Start:
    """Start Codex at one task for an account, told where to ask as its users tell it."""

    def start(account: str) -> AbstractAsyncContextManager[Program]:
        home = stage.home()
        settings = home / ".codex"
        settings.mkdir()
        (settings / "config.toml").write_text(CONFIG.format(base_url=stage.v1))
        argv = [*codex_command, "exec", "--skip-git-repo-check", "--sandbox", "read-only", "Read the plan."]
        return stage.run(argv, {"CODEX_HOME": str(settings), "OPENROUTER_API_KEY": stage.tokens[account]}, home)

    return start


@pytest.fixture
def bare_codex(codex_command: list[str], stage: Stage) -> Start:
    """Start Codex without a configuration file, as an agent of a run does; takes further options of its own."""

    def start(*options: str) -> AbstractAsyncContextManager[Program]:
        asked = ["-c", f"openai_base_url={stage.v1}", "--model", "openai/gpt-5-mini", *options, "Read the plan."]
        return stage.run(
            [*codex_command, "exec", "--skip-git-repo-check", *asked], {"CODEX_API_KEY": stage.tokens["a"]}
        )

    return start


async def test_it_works_and_is_posted_as_billed(stage: Stage, codex: Start) -> None:
    """Two turns, a command between them, each at the simulator's price."""
    stage.sim.scenario = Scenario(replies=(ANSWER, LOOK))
    async with codex("a") as client:
        ended = await client.end()
    assert ended.code == 0, ended.said
    assert str(WORDS.text) in ended.out
    assert await stage.posted_as_billed() == 2


async def test_it_stops_when_refused(stage: Stage, codex: Start) -> None:
    """It says why, and tries again at most twice."""
    await stage.open("poor", POOR_USD)
    async with codex("poor") as client:
        ended = await client.end()
    stage.check_refusal(ended, "poor")
    assert stage.sim.requests == []


async def test_it_stops_once_its_budget_is_spent(stage: Stage, codex: Start) -> None:
    """It works for as long as there is money, and ends when the next turn is refused."""
    stage.sim.scenario = Scenario(replies=(LOOK,))
    await stage.open("small", SMALL_USD)
    async with codex("small") as client:
        ended = await client.end()
    stage.check_refusal(ended, "small")
    assert await stage.posted_as_billed("small") >= 2
    assert stage.billed_usd() <= Decimal(SMALL_USD)


async def test_it_ends_with_an_error_when_cut(stage: Stage, codex: Start) -> None:
    """Half a text does not pass for a whole one; whatever it asks after the cut is refused."""
    stage.sim.scenario = LONG
    async with codex("a") as client:
        await stage.freeze_once_heard(b"response.output_text.delta")
        ended = await client.end()
    assert ended.code == 1, ended.said
    assert ENDED in ended.said
    assert stage.refused() <= RETRIES_MAX
    assert await stage.posted_as_billed() == 1


async def test_it_opens_a_websocket_first_and_goes_on_by_http(stage: Stage, bare_codex: Start) -> None:
    async with bare_codex() as client:
        ended = await client.end()
    assert ended.code == 0, ended.said
    assert str(WORDS.text) in ended.out
    assert stage.tap.passed.startswith(b"HTTP/1.1 426 ")
    assert await stage.posted_as_billed() == 1


async def test_it_is_told_that_the_search_of_full_access_is_left_out(stage: Stage, bare_codex: Start) -> None:
    async with bare_codex("--dangerously-bypass-approvals-and-sandbox") as client:
        ended = await client.end()
    assert ended.code == 0, ended.said
    assert b"\r\nX-Preflight-Dropped: client_metadata, tools.web_search\r\n" in stage.tap.passed
    assert b"web_search" not in stage.sim.requests[0].body
    assert await stage.posted_as_billed() == 1
