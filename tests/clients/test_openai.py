"""The `openai` package, as most agents use it: both its APIs through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.clients.stage import ENDED, LONG, POOR_USD, REFUSED, WORDS, Stage
from tests.support.proxy_world import MODEL

pytestmark = pytest.mark.wire

CLIENT_S_MAX = 60.0
"""The client's own patience; no test comes near it."""
TASK = "Read the plan."
EMBEDDING_MODEL = "openai/text-embedding-3-small"

Ask = Callable[[openai.OpenAI], str]


@pytest.fixture
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    """The client with its own defaults, retries included."""
    with openai.OpenAI(base_url=stage.v1, api_key=stage.tokens["a"], timeout=CLIENT_S_MAX) as made:
        yield made


def chat(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": TASK}])
    return answer.choices[0].message.content or ""


def chat_streamed(client: openai.OpenAI) -> str:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": TASK}]
    with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as chunks:
        return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def responses(client: openai.OpenAI) -> str:
    return client.responses.create(model=MODEL, input=TASK).output_text


def responses_streamed(client: openai.OpenAI) -> str:
    with client.responses.create(model=MODEL, input=TASK, stream=True) as events:
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")


@pytest.mark.parametrize("ask", [chat, chat_streamed, responses, responses_streamed])
async def test_it_works_and_is_posted_as_billed(stage: Stage, client: openai.OpenAI, ask: Ask) -> None:
    """Three calls, each at the simulator's price."""
    for _ in range(3):
        assert await asyncio.to_thread(ask, client) == WORDS.text
    assert await stage.posted_as_billed() == 3


@pytest.mark.parametrize("ask", [chat, chat_streamed, responses, responses_streamed])
async def test_it_stops_when_refused(stage: Stage, client: openai.OpenAI, ask: Ask) -> None:
    """One request, one exception, which says why."""
    client.api_key = await stage.open("poor", POOR_USD)
    with pytest.raises(openai.APIStatusError) as raised:
        await asyncio.to_thread(ask, client)
    assert raised.value.status_code == 402
    assert any(sentence in str(raised.value) for sentence in REFUSED)
    assert raised.value.response.headers["X-Budget-Limit"] == POOR_USD
    assert (stage.refused("poor"), len(stage.sim.requests)) == (1, 0)


@pytest.mark.parametrize(
    ("ask", "event"), [(chat_streamed, b'"content":"plan'), (responses_streamed, b"response.output_text.delta")]
)
async def test_it_ends_with_an_error_when_cut(stage: Stage, client: openai.OpenAI, ask: Ask, event: bytes) -> None:
    """Half a text does not pass for a whole one: a freeze raises in the middle of the stream."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(ask, client))
    await stage.freeze_once_heard(event)
    with pytest.raises(openai.APIError, match=ENDED):
        await asking
    assert len(stage.sim.requests) == 1
    assert await stage.posted_as_billed() == 1


@pytest.mark.parametrize("ask", [chat, responses])
async def test_it_ends_with_an_error_when_frozen_before_the_answer(
    stage: Stage, client: openai.OpenAI, ask: Ask
) -> None:
    """A call that upstream is still at work on is answered with the refusal, and posted when its cost is told."""
    stage.sim.scenario = LONG
    asking = asyncio.create_task(asyncio.to_thread(ask, client))
    await stage.sim.until(lambda: bool(stage.sim.requests))
    await stage.freeze()
    with pytest.raises(openai.APIStatusError, match=ENDED):
        await asking
    assert await stage.posted_as_billed() == 1


async def test_embeddings_work_and_are_posted_as_billed(stage: Stage, client: openai.OpenAI) -> None:
    """The package asks for base64 by itself."""
    made = await asyncio.to_thread(client.embeddings.create, model=EMBEDDING_MODEL, input=["one", "two"])
    assert len(made.data) == 2
    assert await stage.posted_as_billed() == 1


async def test_a_request_repeated_under_another_label_is_refused_in_the_final_word(
    stage: Stage, client: openai.OpenAI
) -> None:
    """Agents write new labels for each try of one request: it stays the same request (M19)."""
    client.api_key = await stage.open("poor", POOR_USD)
    statuses = [await asyncio.to_thread(_status_with_label, client, label) for label in ("one", "two")]
    assert statuses == [402, 400]


def _status_with_label(client: openai.OpenAI, label: str) -> int:
    labels = {"client_metadata": {"turn": label}, "metadata": {"turn": label}}
    with pytest.raises(openai.APIStatusError) as raised:
        client.responses.create(model=MODEL, input=TASK, extra_body=labels)
    return raised.value.status_code
