"""Anthropic's Claude Code from npm, as `claude --print`: the messages API, as a stream, and without one after an error."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from tests.clients.npm import CLAUDE_CODE, command
from tests.clients.program import Program
from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]  # the first test installs it

MODEL = "anthropic/claude-haiku-4.5"
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}
AFTER_A_REFUSAL_MAX = 2
"""Requests that may follow the first refusal."""


def claude(stage: Stage, name: str = "a") -> AbstractAsyncContextManager[Program]:
    """Claude Code at one task, told where to ask as its users tell it."""
    asked = {
        "ANTHROPIC_BASE_URL": stage.anthropic,
        "ANTHROPIC_AUTH_TOKEN": stage.tokens[name],
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": MODEL,
    }
    return stage.run([*command(CLAUDE_CODE), "--print", "Read the plan."], {**QUIET, **asked})


async def test_it_works_and_is_booked_as_billed(stage: Stage) -> None:
    """One turn, at the simulator's price."""
    async with claude(stage) as client:
        ended = await client.end()
    assert (ended.code, ended.out.strip()) == (0, WORDS.text), ended.said
    assert await stage.booked_as_billed() == 1


async def test_it_stops_when_refused(stage: Stage) -> None:
    """It says why, and tries again at most twice."""
    await stage.open("poor", POOR_USD)
    async with claude(stage, "poor") as client:
        ended = await client.end()
    assert ended.code == 1, ended.said
    assert any(sentence in ended.said for sentence in REFUSED), ended.said
    assert 1 <= stage.refused("poor") <= 1 + AFTER_A_REFUSAL_MAX
    assert stage.sim.requests == []


async def test_it_ends_with_an_error_when_cut(stage: Stage) -> None:
    """Half a text does not pass for a whole one; the second try, without a stream, is refused."""
    stage.sim.scenario = LONG
    async with claude(stage) as client:
        await stage.freeze_once_heard(b"text_delta")
        ended = await client.end()
    assert ended.code == 1, ended.said
    assert ENDED in ended.said
    assert stage.refused() <= AFTER_A_REFUSAL_MAX
    assert await stage.booked_as_billed() == 1
