"""A request's body, piece by piece."""

from __future__ import annotations

import asyncio

import pytest

from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import UNREAD_BODY_BYTES_MAX, ServerRequest
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

CHUNKED = b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_pieces_come_as_they_arrive_and_end_with_nothing() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    listeners = Listeners()

    async def read(request: ServerRequest) -> None:
        while piece := await request.read_piece():
            pieces.put_nowait(piece)
        pieces.put_nowait(await request.read_piece())
        request.response.answer(200, [], b"")

    _, port = await listeners.on_tcp(read, "127.0.0.1", 0)
    async with await Raw.to(port) as agent:
        agent.send(CHUNKED + b"3\r\nabc\r\n")
        assert await pieces.get() == b"abc"
        agent.send(b"2\r\nde\r\n0\r\n\r\n")
        assert [await pieces.get() for _ in range(2)] == [b"de", b""]
        assert (await agent.answer())[0] == 200
    await listeners.close()


async def test_headers_are_those_of_the_head_without_white_space_around_them_and_trailers_are_dropped() -> None:
    seen: list[ServerRequest] = []
    listeners = Listeners()

    async def read(request: ServerRequest) -> None:
        while await request.read_piece():
            pass
        seen.append(request)
        request.response.answer(200, [], b"")

    _, port = await listeners.on_tcp(read, "127.0.0.1", 0)
    async with await Raw.to(port) as agent:
        agent.send(CHUNKED.replace(b"\r\nHost: x", b"\r\nX-A:  1 \t \r\nHost: x") + b"1\r\na\r\n0\r\nX-B: 2\r\n\r\n")
        assert (await agent.answer())[0] == 200
    assert seen[0].headers.pairs == [("X-A", "1"), ("Host", "x"), ("Transfer-Encoding", "chunked")]
    assert seen[0].headers == {"x-a": "1", "host": "x", "transfer-encoding": "chunked"}
    await listeners.close()


async def test_a_body_that_turns_out_malformed_is_an_error_at_once_and_the_last_of_its_connection() -> None:
    begun, listeners = asyncio.Event(), Listeners()

    async def read(request: ServerRequest) -> None:
        begun.set()
        try:
            while await request.read_piece():
                pass
        except ConnectionError:
            request.response.answer(400, [], b"")

    _, port = await listeners.on_tcp(read, "127.0.0.1", 0)
    async with await Raw.to(port) as agent:
        agent.send(CHUNKED + b"3\r\nabc\r\n")
        await begun.wait()
        agent.send(b"zz\r\n" + CHUNKED)
        status, headers, _ = await agent.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert await agent.ended()
    await listeners.close()


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    """The client waits; what it sends stays in its own system."""
    seen: list[ServerRequest] = []
    go_on, listeners = asyncio.Event(), Listeners()

    async def wait(request: ServerRequest) -> None:
        seen.append(request)
        await go_on.wait()
        size_bytes = 0
        while piece := await request.read_piece():
            size_bytes += len(piece)
        request.response.answer(200, [], b"%d" % size_bytes)

    _, port = await listeners.on_tcp(wait, "127.0.0.1", 0)
    async with await Raw.to(port) as agent:
        size_bytes = 64 * 2**20
        agent.send(b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size_bytes + bytes(size_bytes))
        while not (seen and seen[0].fills_up):
            await asyncio.sleep(0.01)
        for _ in range(100):
            await asyncio.sleep(0)
        assert UNREAD_BODY_BYTES_MAX < seen[0]._unread_bytes < 2**20
        go_on.set()
        assert (await agent.answer())[2] == b"%d" % size_bytes
    await listeners.close()
