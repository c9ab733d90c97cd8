"""The client's side of a call, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import BEHIND_BYTES_MAX, ClientResponse

pytestmark = pytest.mark.wire

Script = Callable[[ClientResponse], None]


async def answered(script: Script) -> tuple[int, bytes, str]:
    """Status, body and one header of what a client gets when `script` speaks."""
    listeners = Listeners()

    async def handle(request: ServerRequest) -> None:
        request.response.extra = [("X-Extra", "yes")]
        script(request.response)

    _host, port = await listeners.on_tcp(handle, "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as response:
            return response.status, await response.read(), response.headers.get("X-Extra", "")
    finally:
        await listeners.close()


async def test_what_is_written_arrives_in_order_and_ends() -> None:
    def script(response: ClientResponse) -> None:
        response.start(200, [("Content-Type", "text/plain")])
        response.write(b"one ")
        response.write(b"two ")
        response.finish(b"three")
        response.write(b"too late")

    assert await answered(script) == (200, b"one two three", "yes")


async def test_an_answer_before_a_start_is_whole() -> None:
    def script(response: ClientResponse) -> None:
        response.answer(402, [("Content-Type", "application/json")], b"{}")
        response.answer(500, [], b"never")

    assert await answered(script) == (402, b"{}", "yes")


async def test_an_answer_after_a_start_is_the_rest_of_the_body() -> None:
    def script(response: ClientResponse) -> None:
        response.start(200, [])
        response.write(b"  ")
        response.answer(402, [], b"{}")

    assert await answered(script) == (200, b"  {}", "yes")


async def test_a_client_too_far_behind_counts_as_gone() -> None:
    """It reads nothing, and the writer does not wait for it."""
    listeners = Listeners()
    seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handle(request: ServerRequest) -> None:
        response = request.response
        response.start(200, [])
        for _ in range(4 * BEHIND_BYTES_MAX // 2**20):
            response.write(bytes(2**20))
        seen.set_result(response.closed)

    _host, port = await listeners.on_tcp(handle, "127.0.0.1", 0)
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await asyncio.wait_for(seen, 20)
    writer.close()
    await listeners.close()


async def test_after_the_client_left_nothing_is_written_and_nothing_fails() -> None:
    listeners = Listeners()
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handle(request: ServerRequest) -> None:
        response = request.response
        response.start(200, [])
        response.leave()
        response.write(b"x")
        response.finish(b"y")
        done.set_result(response.closed)

    _host, port = await listeners.on_tcp(handle, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get(f"http://127.0.0.1:{port}/") as response:
                await response.read()
    assert await done
    await listeners.close()
