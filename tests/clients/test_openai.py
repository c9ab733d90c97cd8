"""The `openai` package, as most agents use it: its chat API through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage
from tests.preflight_proxy.world import MODEL

pytestmark = pytest.mark.wire

CLIENT_S_MAX = 60.0
"""The client's own patience; no test comes near it."""


@pytest.fixture
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    """The client with its own defaults, retries included."""
    with openai.OpenAI(base_url=stage.v1, api_key=stage.tokens["a"], timeout=CLIENT_S_MAX) as made:
        yield made


def ask(client: openai.OpenAI, stream: bool) -> str:
    """Ask by chat; returns what the model said."""
    if not stream:
        answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Read the plan."}])
        return answer.choices[0].message.content or ""
    with client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Read the plan."}], stream=True
    ) as chunks:
        return "".join(_said(chunk) for chunk in chunks)


def _said(chunk: ChatCompletionChunk) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_works_and_is_booked_as_billed(stage: Stage, client: openai.OpenAI, stream: bool) -> None:
    """Three calls, each at the simulator's price."""
    for _ in range(3):
        assert await asyncio.to_thread(ask, client, stream) == WORDS.text
    assert await stage.booked_as_billed() == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_stops_when_refused(stage: Stage, client: openai.OpenAI, stream: bool) -> None:
    """One request, one exception, which says why."""
    client.api_key = await stage.open("poor", POOR_USD)
    with pytest.raises(openai.APIStatusError) as raised:
        await asyncio.to_thread(ask, client, stream)
    assert raised.value.status_code == 402
    assert any(sentence in str(raised.value) for sentence in REFUSED)
    assert raised.value.response.headers["X-Budget-Limit"] == POOR_USD
    assert (stage.refused("poor"), len(stage.sim.requests)) == (1, 0)


async def test_chat_ends_with_an_error_when_cut(stage: Stage, client: openai.OpenAI) -> None:
    """Half a text does not pass for a whole one: a freeze raises in the middle of the stream."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(ask, client, True))
    await stage.freeze_once_heard(b'"content":"plan')
    with pytest.raises(openai.APIError, match=ENDED):
        await asking
    assert len(stage.sim.requests) == 1
    assert await stage.booked_as_billed() == 1


async def test_a_call_is_refused_once_its_run_is_frozen(stage: Stage, client: openai.OpenAI) -> None:
    """What comes after the cut is answered from local state."""
    await stage.freeze()
    with pytest.raises(openai.APIStatusError, match=ENDED):
        await asyncio.to_thread(ask, client, False)
    assert stage.sim.requests == []
