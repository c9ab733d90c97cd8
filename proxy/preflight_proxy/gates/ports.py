"""What stands behind each of a gate's ports: the data plane, in plain HTTP or in TLS (C10), or what a user named.

A port's connections come from the listener that the gate handed over, or, portable, one by one through the portal.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from preflight_proxy.core.egress import read_target
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.services import EgressRules, open_egress, open_service
from preflight_proxy.ledger.account_state import Traffic
from preflight_proxy.server.acceptor import Acceptor
from preflight_proxy.server.certificate import tls_context
from preflight_proxy.server.listeners import Handler, Listeners

Stop = Callable[[], Awaitable[None]]
EGRESS = "egress"
"""Under this name the traffic of a trial's egress is counted; no service can have it."""


class TlsSpec(msgspec.Struct, frozen=True):
    """The port on which agents find `https://openrouter.ai`, and what proves that name to them."""

    port: int
    certificate: str
    key: str

    def __repr__(self) -> str:
        """Says nothing: it holds a key."""
        return "<tls spec>"


class ServiceSpec(msgspec.Struct, frozen=True):
    """A service that a trial may reach: its name for agents, its port at the gate, and where it is, as `HOST:PORT`."""

    name: str
    port: int
    target: str


class EgressSpec(msgspec.Struct, frozen=True):
    """The port of an HTTP proxy at the gate, and the places, as `HOST:PORT`, to which it leads."""

    port: int
    allow: list[str]


class GateSpec(msgspec.Struct, frozen=True):
    """Where a trial's gate hands its listeners over, and for which ports.

    Attributes:
        socket: Path of the gate's unix socket; None for a portable gate.
        ports: All ports, in the order in which the gate hands them over; plain HTTP where nothing else is said of one.
        tls: The one of them that serves TLS, if any.
        services: Those that lead to a service each.
        egress: The one that is an HTTP proxy, if any.
        portal_pass: By which the portal knows the forwarder of a portable gate; None for one that hands over.
    """

    socket: str | None
    ports: list[int]
    tls: TlsSpec | None = None
    services: list[ServiceSpec] = []
    egress: EgressSpec | None = None
    portal_pass: str | None = None

    def __repr__(self) -> str:
        """Says where; it may hold a pass and a key."""
        return f"<gate spec {self.socket or 'portable'} {self.ports}>"


Door = Callable[[socket.socket | None], Awaitable[tuple[Acceptor, Stop]]]
"""Serves one listener, or what is given to the acceptor; returns also what ends this, connections included."""


class GatePorts:
    """Serves one gate's listeners.

    Args:
        spec: Which port is what.
        handler: The data plane's handler for this gate's account.
        listeners: Serve HTTP.
        outside: How egress finds its way.

    Attributes:
        traffic: What went through each service, by its name, and through `egress`.

    Raises:
        ValueError: The spec names a port that is not handed over, a port or service twice, a place that is none, or a
            certificate that cannot be used.
    """

    def __init__(
        self, spec: GateSpec, handler: Handler, listeners: Listeners, outside: EgressRules | None = None
    ) -> None:
        self._handler = handler
        self._listeners = listeners
        self._outside = outside or EgressRules()
        self._doors: dict[int, Door] = {}
        self.traffic: dict[str, Traffic] = {}
        if spec.tls is not None:
            self._add(spec.ports, spec.tls.port, self._tls(spec.tls))
        for service in spec.services:
            self._add(spec.ports, service.port, self._service(service))
        if spec.egress is not None:
            self._add(spec.ports, spec.egress.port, self._egress(spec.egress))

    def _add(self, ports: Sequence[int], port: int, door: Door) -> None:
        if port not in ports or port in self._doors:
            raise ValueError(f"port {port} is not among those that the gate hands over, or is named twice")
        self._doors[port] = door

    def _tls(self, spec: TlsSpec) -> Door:
        context = tls_context(spec.certificate, Secret(spec.key))

        async def door(sock: socket.socket | None) -> tuple[Acceptor, Stop]:
            return await self._listeners.on_connections(self._handler, sock, context)

        return door

    def _service(self, spec: ServiceSpec) -> Door:
        if spec.name == EGRESS or spec.name in self.traffic:
            raise ValueError(f"there cannot be a service, or another one, named {spec.name!r}")
        target, traffic = read_target(spec.target), self.traffic.setdefault(spec.name, Traffic())
        return _accepting(lambda sock: open_service(spec.name, sock, target, traffic))

    def _egress(self, spec: EgressSpec) -> Door:
        allowed = frozenset(map(read_target, spec.allow))
        traffic = self.traffic.setdefault(EGRESS, Traffic())
        return _accepting(lambda sock: open_egress(sock, allowed, traffic, self._outside))

    async def enter(self, ports: Sequence[int]) -> tuple[Mapping[int, Acceptor], Stop]:
        """Serve connections that are given one by one, each by its port; returns also what ends this."""
        entries: dict[int, Acceptor] = {}
        stops: list[Stop] = []

        async def stop() -> None:
            for each in stops:
                await each()

        try:
            for port in ports:
                door = self._doors.get(port, self._plain)
                entries[port], end = await door(None)
                stops.append(end)
        except BaseException:
            await stop()
            raise
        return entries, stop

    async def _plain(self, sock: socket.socket | None) -> tuple[Acceptor, Stop]:
        return await self._listeners.on_connections(self._handler, sock, None)

    async def serve(self, sockets: Sequence[socket.socket]) -> Stop:
        """Serve listeners, each by its port; returns what ends this, connections included."""
        stops: list[Stop] = []

        async def stop() -> None:
            for each in stops:
                await each()

        plain = [sock for sock in sockets if sock.getsockname()[1] not in self._doors]
        try:
            for sock in sockets:
                if (door := self._doors.get(sock.getsockname()[1])) is not None:
                    stops.append((await door(sock))[1])
            stops.append(await self._listeners.on_sockets(self._handler, plain))
        except BaseException:
            await stop()
            raise
        return stop


def _accepting(make: Callable[[socket.socket | None], Acceptor]) -> Door:
    async def door(sock: socket.socket | None) -> tuple[Acceptor, Stop]:
        acceptor = make(sock)
        acceptor.start()
        return acceptor, acceptor.stop

    return door
