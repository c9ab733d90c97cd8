"""What the load generator says, and what the constant upstream answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest

from tests.bench import load
from tests.bench.load import CallError, Conversation, LoadConnection
from tests.bench.subjects import CALLS_PATH, KEY, Upstream, constant_upstream
from tests.bench.upstream import PUSD_PER_USD, Behaviour

wire = pytest.mark.wire
BODY = b'{"model":"bench/model","messages":[{"role":"user","content":"the same again"}]}'
REQUEST_HEAD = b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n"


class Kept(LoadConnection):
    """A connection that keeps what was answered."""

    def answer(self) -> bytes:
        """Return the last answer, framing included."""
        return b"".join(self._pieces)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with constant_upstream() as serving:
        yield serving


async def answers(upstream: Upstream, count: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Send the same request so often, and return the answers."""
    monkeypatch.setattr(load, "LoadConnection", Kept)
    connection = await load.connect(load.Target(upstream.port, CALLS_PATH, (KEY,)))
    assert isinstance(connection, Kept)
    seen, found = load.Load(), []
    for _ in range(count):
        await connection.call(REQUEST_HEAD % (CALLS_PATH.encode(), len(BODY)) + BODY, seen)
        found.append(connection.answer())
    connection.close()
    return found


def test_each_body_repeats_all_messages_of_the_one_before() -> None:
    conversation = Conversation(turns_max=3)
    bodies = [json.loads(conversation.next_body()) for _ in range(4)]
    for before, after in pairwise(bodies[:3]):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert len(after["messages"]) == len(before["messages"]) + 2
    assert bodies[3]["messages"][0] not in bodies[2]["messages"]  # a new conversation shares nothing


def test_no_two_bodies_are_equal() -> None:
    agents = [Conversation(turns_max=2), Conversation(turns_max=2), Conversation(stream=True)]
    bodies = [agent.next_body() for _ in range(50) for agent in agents]
    assert len(set(bodies)) == len(bodies)


def test_a_conversation_has_the_size_that_is_asked_for() -> None:
    body = Conversation(messages=256, message_bytes=4096).next_body()
    assert len(body) == pytest.approx(2**20, rel=0.05)
    assert len(json.loads(body)["messages"]) == 257


@wire
async def test_the_upstream_never_answers_twice_alike(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the requests are equal; the id in the header is that in the body."""
    upstream.behave(Behaviour())
    found = [answer.partition(b"\r\n\r\n") for answer in await answers(upstream, 20, monkeypatch)]
    documents = [json.loads(body) for _, _, body in found]
    ids = [document["id"] for document in documents]
    assert len(set(ids)) == len({document["choices"][0]["message"]["content"] for document in documents}) == 20
    assert all(f"X-Generation-Id: {id_}".encode() in head for id_, (head, _, _) in zip(ids, found, strict=True))


@wire
async def test_a_stream_has_its_chunks_comments_and_usage(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.behave(Behaviour(chunks=30, interval_s=0.001))
    first, second = await answers(upstream, 2, monkeypatch)
    assert first.count(b"at=") == second.count(b"at=") == 30
    assert b": OPENROUTER PROCESSING\n\n" in first
    assert first.index(b'"usage"') > first.rindex(b"at=")
    assert first.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert set(load.WRITTEN_AT.findall(first)).isdisjoint(load.WRITTEN_AT.findall(second))


@wire
async def test_the_bill_is_the_sum_of_the_usage_that_was_answered(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.behave(Behaviour())
    calls, billed_pusd = upstream.bill()
    found = [answer.partition(b"\r\n\r\n")[2] for answer in await answers(upstream, 3, monkeypatch)]
    costs = [json.loads(body, parse_float=Decimal)["usage"]["cost"] for body in found]
    assert upstream.bill() == (calls + 3, billed_pusd + sum(costs) * PUSD_PER_USD)


@wire
async def test_what_the_upstream_kept_a_call_waiting_is_not_counted(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says how long it was; the load generator takes it off."""
    upstream.behave(Behaviour(delay_s=0.02))
    (answer,) = await answers(upstream, 1, monkeypatch)
    held = load.HELD.search(answer)
    assert held is not None
    assert int(held[1]) >= 20_000_000
    connection = Kept()
    connection._load, connection._pieces, connection._first_ns = load.Load(), [answer], 0
    connection._began_ns = 1000
    connection._finish(1000 + int(held[1]) + 7)
    assert connection._load.call_ns == [7]


@wire
async def test_a_load_makes_as_many_calls_as_were_asked_for(upstream: Upstream) -> None:
    upstream.behave(Behaviour())
    target = load.Target(upstream.port, CALLS_PATH, (KEY,))
    assert (await load.run_for(target, 1e9, connections=4, calls_max=10)).calls == 10
    assert (await load.run_for(target, 0.0, connections=4)).calls == 4  # each agent calls once at least


@wire
async def test_an_answer_that_is_none_of_the_upstreams_ends_the_measure(upstream: Upstream) -> None:
    target = load.Target(upstream.port, "/bench/behaviour", (KEY,))  # which takes no calls
    with pytest.raises(CallError):
        await load.run_for(target, 0.0)
