"""Bytes both ways: all of them, counted, until an end that comes in every case."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from preflight_proxy.gates.tunnel import Traffic, connected, exchange, streams
from tests.support.gate_places import closed_port, echo, pair, place

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
MUCH = bytes(range(256)) * 4096


@on_both_loops
def test_everything_arrives_although_one_end_has_said_its_last(run: Run) -> None:
    async def scene() -> None:
        traffic = Traffic()
        async with (
            asyncio.timeout(30),
            place(echo) as port,
            pair() as (agent, inside),
            connected(["127.0.0.1"], port) as outside,
        ):
            passing = asyncio.ensure_future(exchange(inside, outside, traffic))
            agent[1].write(MUCH)
            agent[1].write_eof()
            assert await agent[0].read() == MUCH
            await passing
        assert (traffic.sent_bytes, traffic.received_bytes) == (len(MUCH), len(MUCH))

    run(scene())


@on_both_loops
def test_where_nothing_moves_there_is_an_end(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, _service):
            await exchange(inside, outside, Traffic(), idle_s_max=0.05)
            agent[1].close()

    run(scene())


@on_both_loops
def test_an_end_that_breaks_ends_the_other(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, service):
            passing = asyncio.ensure_future(exchange(inside, outside, Traffic()))
            service[1].transport.abort()
            agent[1].write(MUCH)
            agent[1].transport.abort()
            await passing

    run(scene())


@on_both_loops
def test_a_last_word_to_an_end_that_is_gone_is_no_fault(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, service):
            passing = asyncio.ensure_future(exchange(inside, outside, Traffic()))
            service[1].write_eof()
            assert await agent[0].read() == b""
            outside[1].transport.abort()
            agent[1].write_eof()
            await passing

    run(scene())


async def test_the_first_that_accepts_is_taken_and_none_is_an_error() -> None:
    async with asyncio.timeout(30), place(echo) as port:
        async with connected(["127.0.0.2", "127.0.0.1"], port) as (reader, writer):
            writer.write_eof()
            assert await reader.read() == b""
        with pytest.raises(OSError):
            async with connected(["127.0.0.1"], closed_port()):
                pass
        with pytest.raises(ConnectionError, match="nothing"):
            async with connected([], port):
                pass


@on_both_loops
def test_an_accepted_connection_delivers_its_last_bytes_and_is_closed(run: Run) -> None:
    async def scene() -> None:
        near, far = socket.socketpair()
        async with asyncio.timeout(30):
            async with streams(near) as (_, writer):
                writer.write(b"last")
            reader, other = await asyncio.open_connection(sock=far)
            assert await reader.read() == b"last"
            other.close()

    run(scene())


def test_figures_are_plain_data() -> None:
    traffic = Traffic(connections=1, sent_bytes=2, received_bytes=3)
    traffic.refuse()
    assert traffic.document() == {"connections": 1, "refused": 1, "sent_bytes": 2, "received_bytes": 3}
