"""The `anthropic` package: its messages API through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import anthropic
import pytest
from anthropic.types import MessageParam

from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage

pytestmark = pytest.mark.wire

CLIENT_S_MAX = 60.0
"""The client's own patience; no test comes near it."""
MODEL = "anthropic/claude-haiku-4.5"
TASK: list[MessageParam] = [{"role": "user", "content": "Read the plan."}]
BOUND = 1000

Ask = Callable[[anthropic.Anthropic], str]


@pytest.fixture
def client(stage: Stage) -> Iterator[anthropic.Anthropic]:
    """The client with its own defaults, retries included; the token goes the way that agents give it."""
    with anthropic.Anthropic(
        base_url=stage.anthropic, auth_token=stage.tokens["a"], api_key=None, timeout=CLIENT_S_MAX
    ) as made:
        yield made


def create(client: anthropic.Anthropic) -> str:
    answer = client.messages.create(model=MODEL, max_tokens=BOUND, messages=TASK)
    return "".join(block.text for block in answer.content if block.type == "text")


def create_streamed(client: anthropic.Anthropic) -> str:
    with client.messages.stream(model=MODEL, max_tokens=BOUND, messages=TASK) as stream:
        return "".join(stream.text_stream)


@pytest.mark.parametrize("ask", [create, create_streamed])
async def test_it_works_and_is_posted_as_billed(stage: Stage, client: anthropic.Anthropic, ask: Ask) -> None:
    """Three calls, each at the simulator's price."""
    for _ in range(3):
        assert await asyncio.to_thread(ask, client) == WORDS.text
    assert await stage.posted_as_billed() == 3


def count(client: anthropic.Anthropic) -> int:
    return client.messages.count_tokens(model=MODEL, messages=TASK).input_tokens


def count_in_beta(client: anthropic.Anthropic) -> int:
    return client.beta.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "Read it."}]
    ).input_tokens


@pytest.mark.parametrize("ask", [count, count_in_beta])
async def test_it_counts_tokens_without_a_call(
    stage: Stage, client: anthropic.Anthropic, ask: Callable[[anthropic.Anthropic], int]
) -> None:
    """The beta of it has other headers and a query."""
    assert 5 <= await asyncio.to_thread(ask, client) <= 25
    assert stage.sim.requests == []


@pytest.mark.parametrize("ask", [create, create_streamed])
async def test_it_stops_when_refused(stage: Stage, client: anthropic.Anthropic, ask: Ask) -> None:
    """One request, one exception, which says why."""
    client.auth_token = await stage.open("poor", POOR_USD)
    with pytest.raises(anthropic.APIStatusError) as raised:
        await asyncio.to_thread(ask, client)
    assert raised.value.status_code == 402
    assert any(sentence in str(raised.value) for sentence in REFUSED)
    assert raised.value.response.headers["X-Budget-Limit"] == POOR_USD
    assert (stage.refused("poor"), len(stage.sim.requests)) == (1, 0)


async def test_it_ends_with_an_error_when_cut(stage: Stage, client: anthropic.Anthropic) -> None:
    """Half a text does not pass for a whole one: a freeze raises in the middle of the stream."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(create_streamed, client))
    await stage.freeze_once_heard(b"text_delta")
    with pytest.raises(anthropic.APIError, match=ENDED):
        await asking
    assert len(stage.sim.requests) == 1
    assert await stage.posted_as_billed() == 1


async def test_it_ends_with_an_error_when_frozen_before_the_answer(stage: Stage, client: anthropic.Anthropic) -> None:
    """A call that upstream is still at work on is answered with the refusal, and posted when its cost is told."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(create, client))
    await stage.sim.until(lambda: bool(stage.sim.requests))
    await stage.freeze()
    with pytest.raises(anthropic.APIStatusError, match=ENDED):
        await asking
    assert await stage.posted_as_billed() == 1
