"""Listeners as gates hand them over, and the servers outside that they lead to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from preflight_proxy.gates.ports import Streams
from preflight_proxy.server.listeners import Acceptor

Place = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def opened(make: Callable[[socket.socket], Acceptor]) -> AsyncIterator[int]:
    """The port of a listener behind which something is opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = make(listener)
        acceptor.start()
        yield listener.getsockname()[1]
        await acceptor.stop()


@contextlib.asynccontextmanager
async def place(serve: Place) -> AsyncIterator[int]:
    """The port of a place outside."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def closed_port() -> int:
    """A port without a listener, which port 0 never yields: `discard`."""
    return 9


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back once the client has finished."""
    writer.write(await reader.read())
    writer.close()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write until the client is gone."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Streams, Streams]]:
    """Return both ends of one connection."""
    near, far = socket.socketpair()
    ends = [await asyncio.open_connection(sock=end) for end in (near, far)]
    yield ends[0], ends[1]
    for _, writer in ends:
        writer.transport.abort()
