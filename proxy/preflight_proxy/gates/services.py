"""Relays an agent's connections to what its user allows: services, and places on an egress list.

Each service, and egress, has its own port at the gate, its own count and its own limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from preflight_proxy.core.egress import (
    HEAD_BYTES_MAX,
    Accepts,
    EgressRefusedError,
    Resolve,
    Target,
    is_public,
    read_head,
    route,
)
from preflight_proxy.ledger.account_state import Traffic
from preflight_proxy.server.acceptor import Acceptor

SERVICE_CONNECTIONS_MAX = 64
"""Open connections to one service; a pool of a client has ten or so, and a service of the user's own is no load test's target."""
EGRESS_CONNECTIONS_MAX = 64
"""Open connections through a trial's egress; a package manager opens about twenty."""
EGRESS_HEAD_S_MAX = 10.0
"""From a connection's opening to the end of its request's head."""
REFUSALS_LOGGED_MAX = 100
"""Refusals of one service, or of egress, that are logged; all are counted. An agent that asks in a loop must not fill the disk."""

CHUNK_BYTES = 64 * 1024
CONNECT_S_MAX = 10.0
"""How long a place outside may take to accept; a client gives up after about as long."""
HOSTS_MAX = 4
"""How many addresses of one name are tried; each has `CONNECT_S_MAX`."""
LAST_BYTES_S_MAX = 10.0
"""How long a closed connection may take to deliver its last bytes; a reader that does not read holds it no longer."""
TUNNEL_IDLE_S_MAX = 900.0
"""A connection on which nothing moves for this long is ended; a database's or a browser's pool may rest for minutes."""

_log = structlog.get_logger("preflight_proxy.gates.services")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def resolve_here(host: str, port: int) -> Sequence[str]:
    """Resolve a name as this machine does.

    Raises:
        OSError: It has no address.
    """
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in rows]


@dataclass(frozen=True, slots=True)
class EgressRules:
    """How names become addresses, and which of these agents may reach by egress."""

    resolve: Resolve = resolve_here
    accepts: Accepts = is_public

    async def timed_resolve(self, host: str, port: int) -> Sequence[str]:
        """Resolve a name, in no more time than a connection has.

        Raises:
            OSError: It has no address, or none in time (TimeoutError).
        """
        async with asyncio.timeout(CONNECT_S_MAX):
            return await self.resolve(host, port)


def open_service(listener: socket.socket | None, name: str, target: Target, traffic: Traffic) -> Acceptor:
    """Relay what connects to a listener, or is given, to one service. The user named the target: it may be any address."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                async with connected([target.host], target.port) as outside:
                    traffic.connections += 1
                    await exchange(agent, outside, traffic)
            except OSError as exc:
                traffic.refuse()
                if traffic.refused <= REFUSALS_LOGGED_MAX:
                    why = str(exc) or type(exc).__name__
                    _log.warning("service.unreachable", service=name, target=str(target), why=why)

    return Acceptor(name, listener, serve, SERVICE_CONNECTIONS_MAX, on_surplus=traffic.refuse)


def open_egress(
    listener: socket.socket | None, allowed: Collection[Target], traffic: Traffic, rules: EgressRules
) -> Acceptor:
    """Serve an HTTP proxy, mostly for CONNECT, that leads to the allowed places only."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                await _egress(agent, allowed, traffic, rules)
            except EgressRefusedError as exc:
                traffic.refuse()
                if traffic.refused <= REFUSALS_LOGGED_MAX:
                    _log.warning("egress.refused", status=exc.status, why=str(exc))
                await _say(agent, exc.status, str(exc))

    return Acceptor("egress", listener, serve, EGRESS_CONNECTIONS_MAX, on_surplus=traffic.refuse)


async def _egress(agent: Streams, allowed: Collection[Target], traffic: Traffic, rules: EgressRules) -> None:
    request = read_head(await _head(agent[0]))
    addresses = await route(request.target, allowed, rules.timed_resolve, rules.accepts)
    try:
        async with connected(addresses, request.target.port) as there:
            traffic.connections += 1
            if request.head:
                there[1].write(request.head)
            else:
                agent[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await exchange(agent, there, traffic)
    except OSError as exc:
        raise EgressRefusedError(502, f"{request.target} does not accept a connection.") from exc


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(EGRESS_HEAD_S_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as exc:
        raise EgressRefusedError(431, "The request's head is too long.") from exc
    except asyncio.IncompleteReadError as exc:
        raise ConnectionResetError("the agent left before it had asked") from exc
    if len(head) > HEAD_BYTES_MAX:
        raise EgressRefusedError(431, "The request's head is too long.")
    return head


async def _say(agent: Streams, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    agent[1].write(head.encode() + b"Connection: close\r\n\r\n" + body)
    await agent[1].drain()


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
            async with asyncio.timeout(LAST_BYTES_S_MAX):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


async def exchange(
    agent: Streams, outside: Streams, traffic: Traffic, *, idle_s_max: float = TUNNEL_IDLE_S_MAX
) -> None:
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
