"""Serves each port of a gate: the API, in plain HTTP or in TLS (C10), or a service or egress that the user allows.

A shared gate hands its listeners over. A portable gate's connections come one by one, from its forwarder. Each service, and
egress, has its own port, its own count and its own limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import structlog

from preflight_proxy.base.control_messages import GateSpec
from preflight_proxy.core.egress import (
    HEAD_BYTES_MAX,
    Accepts,
    EgressRefusedError,
    Resolve,
    Target,
    is_public,
    read_head,
    read_target,
    route,
)
from preflight_proxy.ledger.account_state import Traffic
from preflight_proxy.server.certificate import tls_context
from preflight_proxy.server.http_server import Handler
from preflight_proxy.server.listeners import Acceptor, Listeners, stop_all

EGRESS = "egress"
"""Under this name the traffic of a trial's egress is counted; no service can have it."""
RELAYED_CONNECTIONS_MAX = 64
"""Open connections to one service, or through a trial's egress. A client's pool has ten or so, a package manager opens twenty."""
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
"""How long a closed connection may take to deliver its last bytes; a reader that does not read does not delay it longer."""
TUNNEL_IDLE_S_MAX = 900.0
"""A connection on which nothing moves for this long is ended; a database's or a browser's pool may rest for minutes."""

_log = structlog.get_logger("preflight_proxy.gates.ports")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def resolve_here(host: str, port: int) -> Sequence[str]:
    """Resolve a name as this machine does.

    Raises:
        OSError: It has no address.
    """
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in rows]


class EgressRules(msgspec.Struct, frozen=True):
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


class GatePorts:
    """Serves one gate's listeners.

    Args:
        spec: Which port is what.
        handler: The handler of this gate's account, for HTTP.
        listeners: Serve HTTP.
        egress_rules: How egress resolves names, and which addresses agents may reach.

    Attributes:
        traffic: What went through each service, by its name, and through `egress`.

    Raises:
        ValueError: The spec names a port that is not handed over, a port or service twice, a target that is not HOST:PORT,
            or a certificate that cannot be used.
    """

    def __init__(
        self, spec: GateSpec, handler: Handler, listeners: Listeners, egress_rules: EgressRules | None = None
    ) -> None:
        self._ports = spec.ports
        self._handler = handler
        self._listeners = listeners
        self._contexts: dict[int, ssl.SSLContext] = {}
        self._relays: dict[int, Callable[[socket.socket | None], Acceptor]] = {}
        self.traffic: dict[str, Traffic] = {}
        if spec.tls is not None:
            self._check(spec.tls.port)
            self._contexts[spec.tls.port] = tls_context(spec.tls.certificate, spec.tls.key)
        for service in spec.services:
            self._check(service.port)
            if service.name == EGRESS or service.name in self.traffic:
                raise ValueError(f"The service name {service.name!r} is used twice, or is reserved.")
            traffic = self.traffic[service.name] = Traffic()
            target = read_target(service.target)
            self._relays[service.port] = partial(open_service, name=service.name, target=target, traffic=traffic)
        if spec.egress is not None:
            self._check(spec.egress.port)
            traffic = self.traffic[EGRESS] = Traffic()
            allowed, rules = frozenset(map(read_target, spec.egress.allow)), egress_rules or EgressRules()
            self._relays[spec.egress.port] = partial(open_egress, allowed=allowed, traffic=traffic, rules=rules)

    def _check(self, port: int) -> None:
        if port not in self._ports or port in self._contexts or port in self._relays:
            raise ValueError(f"Port {port} is not one of the gate's ports, or is named twice.")

    async def serve(self, listeners: Mapping[int, socket.socket | None]) -> Mapping[int, Acceptor]:
        """Serve each port on its listener, or, if that is None, the connections that its acceptor takes.

        Returns:
            The acceptor of each port. The caller stops them, which ends their connections too.
        """
        acceptors: dict[int, Acceptor] = {}
        try:
            for port, sock in listeners.items():
                if (relay := self._relays.get(port)) is not None:
                    acceptors[port] = relay(sock)
                    acceptors[port].start()
                else:
                    context = self._contexts.get(port)
                    acceptors[port] = await self._listeners.on_connections(self._handler, sock, context)
        except BaseException:
            await stop_all(acceptors.values())
            raise
        return acceptors


def open_service(listener: socket.socket | None, name: str, target: Target, traffic: Traffic) -> Acceptor:
    """Relay connections to one service. The user named the target, so it may be any address."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                async with connected([target.host], target.port) as outside:
                    traffic.connections += 1
                    await exchange(agent, outside, traffic)
            except OSError as exc:
                why = str(exc) or type(exc).__name__
                _refuse(traffic, "service.unreachable", service=name, target=str(target), why=why)

    return Acceptor(name, listener, serve, RELAYED_CONNECTIONS_MAX, on_surplus=traffic.refuse)


def open_egress(
    listener: socket.socket | None, allowed: Collection[Target], traffic: Traffic, rules: EgressRules
) -> Acceptor:
    """Serve an HTTP proxy, mostly for CONNECT, that leads to the allowed places only."""

    async def serve(connection: socket.socket) -> None:
        async with streams(connection) as agent:
            try:
                await _egress(agent, allowed, traffic, rules)
            except EgressRefusedError as exc:
                _refuse(traffic, "egress.refused", status=exc.status, why=str(exc))
                await _say(agent, exc.status, str(exc))

    return Acceptor(EGRESS, listener, serve, RELAYED_CONNECTIONS_MAX, on_surplus=traffic.refuse)


def _refuse(traffic: Traffic, event: str, **facts: object) -> None:
    traffic.refuse()
    if traffic.refused <= REFUSALS_LOGGED_MAX:
        _log.warning(event, **facts)


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
        raise ConnectionResetError("the agent left before its request was complete") from exc
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
    failure: OSError = ConnectionError("there is nothing to connect to")
    for host in hosts[:HOSTS_MAX]:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                reader, writer = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
            break
        except OSError as exc:
            failure = exc
    else:
        raise failure
    async with _closing(writer):
        yield reader, writer


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
    """Pass bytes on both ways until both ends have closed their side, one breaks, or nothing moves for `idle_s_max` seconds."""
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
