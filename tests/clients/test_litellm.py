"""`litellm`, by whose `openrouter/` models many agents ask: in a process of its own, as its import takes seconds and settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage
from tests.support.proxy_world import MODEL

pytestmark = pytest.mark.wire

ASK = """
import sys, litellm
for way in sys.argv[2:]:
    stream = way == "stream"
    answer = litellm.completion(model=sys.argv[1], messages=[{"role": "user", "content": "Read the plan."}], stream=stream)
    if stream:
        print("".join(chunk.choices[0].delta.content or "" for chunk in answer))
    else:
        print(answer.choices[0].message.content)
"""


def ask(*ways: str) -> list[str]:
    return [sys.executable, "-c", ASK, f"openrouter/{MODEL}", *ways]


def settings(stage: Stage, name: str = "a") -> Mapping[str, str]:
    """The base URL and the token as its users give them; its price list is the one that it ships with."""
    return {
        "OPENROUTER_API_BASE": stage.v1,
        "OPENROUTER_API_KEY": stage.tokens[name],
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }


async def test_it_works_and_is_posted_as_billed(stage: Stage) -> None:
    """The answer as the model gave it, whole and as a stream, each at the simulator's price."""
    async with stage.run(ask("whole", "stream"), settings(stage)) as client:
        ended = await client.end()
    assert (ended.code, ended.out.splitlines()) == (0, [WORDS.text] * 2), ended.said
    assert await stage.posted_as_billed() == 2


async def test_it_stops_when_refused(stage: Stage) -> None:
    """One request, one exception, which says why."""
    await stage.open("poor", POOR_USD)
    async with stage.run(ask("stream"), settings(stage, "poor")) as client:
        ended = await client.end()
    assert ended.code == 1
    assert any(sentence in ended.err for sentence in REFUSED)
    assert (stage.refused("poor"), len(stage.sim.requests)) == (1, 0)


async def test_it_ends_with_an_error_when_cut(stage: Stage) -> None:
    """Half a text does not pass for a whole one: a freeze raises in the middle of the stream."""
    stage.sim.scenario = LONG
    async with stage.run(ask("stream"), settings(stage)) as client:
        await stage.freeze_once_heard(b'"content":"plan')
        ended = await client.end()
    assert ended.code == 1
    assert ENDED in ended.err
    assert await stage.posted_as_billed() == 1
