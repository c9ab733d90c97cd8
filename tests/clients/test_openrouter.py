"""OpenRouter's own SDK from PyPI, which reads no answer that lacks a field of the API's schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import openrouter
import pytest
from openrouter.components import (
    ChatStreamChunk,
    ChatUserMessage,
    OutputMessageItem,
    ResponseOutputText,
    StreamEvents,
    StreamEventsResponseFailed,
    TextDeltaEvent,
)
from openrouter.errors import OpenRouterError

from openrouter_sim import FaultRule, Scenario, make_fault
from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage
from tests.support.proxy_world import MODEL

pytestmark = pytest.mark.wire

TASK = "Read the plan."
BROKEN = Scenario(replies=LONG.replies, faults=(FaultRule(make_fault("reset", {}), api="responses"),))
"""A stream that ends in the middle."""

Ask = Callable[[openrouter.OpenRouter], str]


@pytest.fixture
def client(stage: Stage) -> Iterator[openrouter.OpenRouter]:
    """The client with its own defaults; the base URL goes the only way that there is."""
    with openrouter.OpenRouter(api_key=lambda: stage.tokens["a"], server_url=stage.v1) as made:
        yield made


def chat(client: openrouter.OpenRouter) -> str:
    answer = client.chat.send(model=MODEL, messages=[ChatUserMessage(role="user", content=TASK)])
    return str(answer.choices[0].message.content)


def chat_streamed(client: openrouter.OpenRouter) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks(client) if chunk.choices)


def chunks(client: openrouter.OpenRouter) -> list[ChatStreamChunk]:
    messages = [ChatUserMessage(role="user", content=TASK)]
    with client.chat.send(model=MODEL, messages=messages, stream=True) as stream:
        return list(stream)


def responses(client: openrouter.OpenRouter) -> str:
    answer = client.responses.send(model=MODEL, input=TASK)
    (item,) = answer.output
    assert isinstance(item, OutputMessageItem)
    return "".join(part.text for part in item.content if isinstance(part, ResponseOutputText))


def responses_streamed(client: openrouter.OpenRouter) -> str:
    return "".join(event.delta for event in events(client) if isinstance(event, TextDeltaEvent))


def events(client: openrouter.OpenRouter) -> list[StreamEvents]:
    with client.responses.send(model=MODEL, input=TASK, stream=True) as stream:
        return list(stream)


@pytest.mark.parametrize("ask", [chat, chat_streamed, responses, responses_streamed])
async def test_it_works_and_is_posted_as_billed(stage: Stage, client: openrouter.OpenRouter, ask: Ask) -> None:
    """Three calls, each at the simulator's price."""
    for _ in range(3):
        assert await asyncio.to_thread(ask, client) == WORDS.text
    assert await stage.posted_as_billed() == 3


@pytest.mark.parametrize("ask", [chat, chat_streamed, responses, responses_streamed])
async def test_it_stops_when_refused(stage: Stage, client: openrouter.OpenRouter, ask: Ask) -> None:
    """One request, one exception, which says why."""
    stage.tokens["a"] = await stage.open("poor", POOR_USD)
    with pytest.raises(OpenRouterError) as raised:
        await asyncio.to_thread(ask, client)
    assert raised.value.status_code == 402
    assert any(sentence in str(raised.value) for sentence in REFUSED)
    assert (stage.refused("poor"), len(stage.sim.requests)) == (1, 0)


async def test_it_reads_why_a_response_was_cut(stage: Stage, client: openrouter.OpenRouter) -> None:
    """Its last event is the failed response, read by its own schema."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(events, client))
    await stage.freeze_once_heard(b"response.output_text.delta")
    last = (await asking)[-1]
    assert isinstance(last, StreamEventsResponseFailed)
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == ("invalid_prompt", ENDED)
    assert await stage.posted_as_billed() == 1


async def test_it_reads_that_a_response_broke_off(stage: Stage, client: openrouter.OpenRouter) -> None:
    """The code is the one on which clients ask again."""
    stage.sim.scenario = BROKEN
    last = (await asyncio.to_thread(events, client))[-1]
    assert isinstance(last, StreamEventsResponseFailed)
    assert last.response.error is not None
    assert last.response.error.code == "server_error"


async def test_it_reads_why_a_chat_was_cut(stage: Stage, client: openrouter.OpenRouter) -> None:
    """It raises nothing: the last chunk has the error."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(chunks, client))
    await stage.freeze_once_heard(b'"content":"plan')
    last = (await asking)[-1]
    assert last.error is not None
    assert (last.error.code, last.error.message) == (402, ENDED)
    assert await stage.posted_as_billed() == 1
