"""Accepting by hand: counted, limited, ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
import uvloop

from preflight_proxy.server.listeners import Acceptor
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@dataclass
class Echo:
    """Says one byte to whoever comes, then holds the connection until it ends."""

    surplus: int = 0
    elsewhere: int = 0
    ended: list[str] = field(default_factory=list)

    async def serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            writer.write(b"!")
            await reader.read()
            self.ended.append("left")
        except asyncio.CancelledError:
            self.ended.append("stopped")
            raise
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def accepting(echo: Echo, connections_max: int = 2) -> AsyncIterator[int]:
    def surplus() -> None:
        echo.surplus += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = Acceptor(
            "test", listener, echo.serve, connections_max, open_elsewhere=lambda: echo.elsewhere, on_surplus=surplus
        )
        acceptor.start()
        yield listener.getsockname()[1]
        await acceptor.stop()


@on_both_loops
def test_a_connection_above_the_limit_is_closed_and_one_that_leaves_frees_its_place(run: Run) -> None:
    async def scene() -> None:
        echo = Echo()
        async with asyncio.timeout(30), accepting(echo) as port, await Raw.to(port) as second:
            async with await Raw.to(port) as first:
                assert await first.reader.readexactly(1) == b"!"
                assert await second.reader.readexactly(1) == b"!"
                async with await Raw.to(port) as third:
                    assert await third.ended()
            while echo.ended != ["left"]:
                await asyncio.sleep(0)
            async with await Raw.to(port) as again:
                assert await again.reader.readexactly(1) == b"!"
            echo.elsewhere = 1
            async with await Raw.to(port) as surplus:
                assert await surplus.ended()
        assert echo.surplus == 2

    run(scene())


@on_both_loops
def test_its_end_ends_what_is_served(run: Run) -> None:
    async def scene() -> None:
        echo = Echo()
        async with asyncio.timeout(30), contextlib.AsyncExitStack() as agents:
            async with accepting(echo) as port:
                agent = await agents.enter_async_context(await Raw.to(port))
                assert await agent.reader.readexactly(1) == b"!"
            assert await agent.ended()
        assert echo.ended == ["stopped"]

    run(scene())


@on_both_loops
def test_a_listener_that_is_shut_ends_accepting_and_logs_nothing(run: Run) -> None:
    async def scene() -> None:
        with structlog.testing.capture_logs() as logs, socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            acceptor = Acceptor("test", listener, Echo().serve, 1)
            acceptor.start()
            async with asyncio.timeout(30):
                async with await Raw.to(listener.getsockname()[1]) as agent:
                    assert await agent.reader.readexactly(1) == b"!"
                listener.shutdown(socket.SHUT_RDWR)
                while acceptor.accepting:
                    await asyncio.sleep(0.01)
            await acceptor.stop()
        assert logs == []

    run(scene())


@on_both_loops
def test_a_flood_of_connections_leaves_the_loop_to_others(run: Run) -> None:
    """The first is served before the last of those that had queued up is turned away."""

    async def scene() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def serve(connection: socket.socket) -> None:
            with connection:
                told.put_nowait("served")
                await asyncio.sleep(3600)

        with contextlib.ExitStack() as crowd, socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
            listener.setblocking(False)
            for _ in range(20):
                crowd.enter_context(socket.create_connection(listener.getsockname()))
            acceptor = Acceptor("test", listener, serve, 1, on_surplus=lambda: told.put_nowait("surplus"))
            acceptor.start()
            async with asyncio.timeout(30):
                heard = [await told.get() for _ in range(20)]
            await acceptor.stop()
        assert heard == ["served", *["surplus"] * 19]

    run(scene())


async def test_a_listener_that_fails_is_logged_once() -> None:
    with structlog.testing.capture_logs() as logs, socket.socket() as listener:
        listener.close()
        acceptor = Acceptor("test", listener, Echo().serve, 1)
        acceptor.start()
        async with asyncio.timeout(30):
            while not logs:
                await asyncio.sleep(0)
        await acceptor.stop()
    assert [line["event"] for line in logs] == ["acceptor.not_accepted"]


async def test_a_connection_that_breaks_off_is_no_fault() -> None:
    async def break_off(connection: socket.socket) -> None:
        connection.close()
        raise ConnectionResetError

    with structlog.testing.capture_logs() as logs, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = Acceptor("test", listener, break_off, 1)
        acceptor.start()
        async with asyncio.timeout(30), await Raw.to(listener.getsockname()[1]) as agent:
            assert await agent.ended()
        await acceptor.stop()
    assert logs == []
