"""What a trial may reach besides the data plane, because its user named it: services, and places on an egress list.

Both are relays for this one account's agent: each has its port at the gate, its own count and its own limits.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Sequence
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
from preflight_proxy.gates.tunnel import CONNECT_S_MAX, Streams, Traffic, connected, exchange, streams
from preflight_proxy.server.acceptor import Acceptor

SERVICE_CONNECTIONS_MAX = 64
"""Open connections to one service; a pool of a client has ten or so, and a service of the user's own is no load test's target."""
EGRESS_CONNECTIONS_MAX = 64
"""Open connections through a trial's egress; a package manager opens about twenty."""
HEAD_S_MAX = 10.0
"""From a connection's opening to the end of its request's head."""
REFUSED_LOGGED_MAX = 100
"""Refusals of one opening that are logged; all are counted. An agent that asks in a loop must not fill the disk."""

_log = structlog.get_logger("preflight_proxy.gates.services")


async def resolve_here(host: str, port: int) -> Sequence[str]:
    """Resolve a name as this machine does.

    Raises:
        OSError: It has no address.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Outside:
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


def open_service(name: str, listener: socket.socket | None, target: Target, traffic: Traffic) -> Acceptor:
    """Relay what connects to a listener, or is given, to one service. The target is the user's word, and may be any address."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                async with connected([target.host], target.port) as outside:
                    traffic.connections += 1
                    await exchange(agent, outside, traffic)
            except OSError as exc:
                traffic.refuse()
                if traffic.refused <= REFUSED_LOGGED_MAX:
                    why = str(exc) or type(exc).__name__
                    _log.warning("service.unreachable", service=name, target=str(target), why=why)

    return Acceptor(name, listener, serve, SERVICE_CONNECTIONS_MAX, on_surplus=traffic.refuse)


def open_egress(
    listener: socket.socket | None, allowed: Collection[Target], traffic: Traffic, outside: Outside
) -> Acceptor:
    """Serve an HTTP proxy, CONNECT above all, that leads to the named places only."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                await _egress(agent, allowed, traffic, outside)
            except EgressRefusedError as exc:
                traffic.refuse()
                if traffic.refused <= REFUSED_LOGGED_MAX:
                    _log.warning("egress.refused", status=exc.status, why=str(exc))
                await _say(agent, exc.status, str(exc))

    return Acceptor("egress", listener, serve, EGRESS_CONNECTIONS_MAX, on_surplus=traffic.refuse)


async def _egress(agent: Streams, allowed: Collection[Target], traffic: Traffic, outside: Outside) -> None:
    ask = read_head(await _head(agent[0]))
    addresses = await route(ask.target, allowed, outside.timed_resolve, outside.accepts)
    try:
        async with connected(addresses, ask.target.port) as there:
            traffic.connections += 1
            if ask.head:
                there[1].write(ask.head)
            else:
                agent[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await exchange(agent, there, traffic)
    except OSError as exc:
        raise EgressRefusedError(502, f"{ask.target} does not accept a connection.") from exc


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HEAD_S_MAX):
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
