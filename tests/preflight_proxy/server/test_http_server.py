"""What becomes of a request whose handler fails, is cancelled, or answers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog

from preflight_proxy.server.http_server import Handler
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.raw_http import Raw, is_error

pytestmark = pytest.mark.wire

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
Serve = Callable[[Handler], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a handler on a free port."""
    listeners = Listeners(head_s_max=60.0)

    async def on_port(handler: Handler) -> int:
        return (await listeners.on_tcp(handler, "127.0.0.1", 0))[1]

    yield on_port
    await listeners.close()


async def test_a_bug_is_a_500_that_shows_nothing_of_itself(serve: Serve) -> None:
    async def crash(_request: ServerRequest) -> None:
        raise RuntimeError("the secret of the house")

    port = await serve(crash)
    with structlog.testing.capture_logs() as logs:
        async with await Raw.to(port) as connection:
            connection.send(GET % 1 + GET % 2)
            status, _, body = await connection.answer()
            assert await connection.ended()
    assert (status, is_error(body, 500)) == (500, True)
    assert b"secret" not in body
    assert [line["event"] for line in logs] == ["request.crashed"]


async def test_a_bug_in_a_running_answer_ends_it_without_a_second_head(serve: Serve) -> None:
    async def crash(request: ServerRequest) -> None:
        request.response.start(200, [])
        request.response.write(b"begun")
        raise RuntimeError("too late")

    port = await serve(crash)
    with structlog.testing.capture_logs() as logs:
        async with await Raw.to(port) as connection:
            connection.send(GET % 1)
            raw = await connection.reader.read()
    assert raw.count(b"HTTP/1.1") == 1
    assert raw.endswith(b"begun\r\n")
    assert [line["event"] for line in logs] == ["request.crashed"]


async def test_a_client_that_leaves_cancels_its_handler(serve: Serve) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_request: ServerRequest) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("not reached")

    async with await Raw.to(await serve(wait)) as connection:
        connection.send(GET % 1)
        await begun.wait()
    await cancelled.wait()


async def test_a_handler_that_answers_nothing_leaves_its_client_a_500(serve: Serve) -> None:
    async def forget(_request: ServerRequest) -> None:
        pass

    async with await Raw.to(await serve(forget)) as connection:
        connection.send(GET % 1)
        status, headers, body = await connection.answer()
        assert (status, headers["connection"], is_error(body, 500)) == (500, "close", True)
        assert await connection.ended()


async def test_a_handler_that_took_over_the_clients_leaving_goes_on_without_it(serve: Serve) -> None:
    """A call is drained: only it can tell when it ends."""
    begun, left, go_on, done = (asyncio.Event() for _ in range(4))

    async def drain(request: ServerRequest) -> None:
        request.on_client_left = left.set
        begun.set()
        await go_on.wait()
        assert request.response.is_gone
        request.response.answer(200, [], b"nobody reads this")
        done.set()

    async with await Raw.to(await serve(drain)) as connection:
        connection.send(GET % 1)
        await begun.wait()
    await left.wait()
    go_on.set()
    await done.wait()


async def test_a_client_that_leaves_after_its_answer_has_not_left_early(serve: Serve) -> None:
    left: list[str] = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def answer(request: ServerRequest) -> None:
        request.on_client_left = lambda: left.append(request.target)
        request.response.answer(200, [], b"")
        await go_on.wait()
        done.set()

    async with await Raw.to(await serve(answer)) as connection:
        for number in (1, 2):  # the next is served although the first handler still runs
            connection.send(GET % number)
            assert (await connection.answer())[0] == 200
    go_on.set()
    await done.wait()
    assert left == []
