"""Bytes between an agent and one place outside, both ways, counted, until either end is done with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

CHUNK_BYTES = 64 * 1024
CONNECT_S_MAX = 10.0
"""How long a place outside may take to accept; a client gives up after about as long."""
HOSTS_MAX = 4
"""How many addresses of one name are tried; each has `CONNECT_S_MAX`."""
LINGER_S_MAX = 10.0
"""How long a closed connection may take to deliver its last bytes; a reader that does not read holds it no longer."""
IDLE_S_MAX = 900.0
"""A connection on which nothing moves for this long is ended; a database's or a browser's pool may rest for minutes."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Traffic:
    """What went through one opening since the account was opened in this process.

    Attributes:
        connections: Those that reached their target.
        refused: Those that did not: too many, not allowed, or nobody there.
        sent_bytes: From the agent.
        received_bytes: To the agent.
    """

    connections: int = 0
    refused: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def refuse(self) -> None:
        """Count one that was refused."""
        self.refused += 1

    def document(self) -> dict[str, int]:
        """Return the figures as JSON-ready data."""
        return {
            "connections": self.connections,
            "refused": self.refused,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
        }


@asynccontextmanager
async def streams(connection: socket.socket) -> AsyncIterator[Streams]:
    """Read and write an accepted connection for as long as the context lasts; it is closed then."""
    try:
        reader, writer = await asyncio.open_connection(sock=connection, limit=CHUNK_BYTES)
    except BaseException:
        connection.close()
        raise
    async with _closing(writer):
        yield reader, writer


@asynccontextmanager
async def connected(hosts: Sequence[str], port: int) -> AsyncIterator[Streams]:
    """Connect to the first of some names or addresses that accepts, for as long as the context lasts.

    Raises:
        OSError: None of them accepts, or not in time (TimeoutError).
    """
    reader, writer = await _first(hosts[:HOSTS_MAX], port)
    async with _closing(writer):
        yield reader, writer


async def _first(hosts: Sequence[str], port: int) -> Streams:
    failed: OSError = ConnectionError("there is nothing to connect to")
    for host in hosts:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                return await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
        except OSError as exc:
            failed = exc
    raise failed


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection at the end: what is written is still delivered, but not to a reader that does not read."""
    try:
        yield
        writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(LINGER_S_MAX):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


async def exchange(agent: Streams, outside: Streams, traffic: Traffic, *, idle_s_max: float = IDLE_S_MAX) -> None:
    """Pass bytes on both ways until both ends have said their last, one breaks, or nothing moves for `idle_s_max` seconds."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(idle_s_max) as idle:

            def sent(count: int) -> None:
                traffic.sent_bytes += count
                idle.reschedule(loop.time() + idle_s_max)

            def received(count: int) -> None:
                traffic.received_bytes += count
                idle.reschedule(loop.time() + idle_s_max)

            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pass_on(agent[0], outside[1], sent))
                    both.create_task(_pass_on(outside[0], agent[1], received))
            except* OSError:
                pass


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: Callable[[int], None]) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
        moved(len(data))
    if not writer.is_closing():
        writer.write_eof()
