"""What stands behind each port that a gate hands over: the data plane in plain HTTP, or the same in TLS (C10)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from preflight_proxy.certificate import tls_context
from preflight_proxy.core.secret import Secret
from preflight_proxy.server import Handler, Listeners

Stop = Callable[[], Awaitable[None]]


class TlsSpec(msgspec.Struct, frozen=True):
    """The port on which agents find `https://openrouter.ai`, and what proves that name to them."""

    port: int
    certificate: str
    key: str

    def __repr__(self) -> str:
        """Says nothing: it holds a key."""
        return "<tls spec>"


class GateSpec(msgspec.Struct, frozen=True):
    """Where a trial's gate hands its listeners over, and for which ports.

    Attributes:
        socket: Path of the gate's unix socket.
        ports: All ports, in the order in which the gate hands them over; plain HTTP where nothing else is said of one.
        tls: The one of them that serves TLS, if any.
    """

    socket: str
    ports: list[int]
    tls: TlsSpec | None = None


class GateDoors:
    """Serves one gate's listeners.

    Args:
        spec: Which port is what.
        handler: The data plane's handler for this gate's account.
        listeners: Serve HTTP.

    Raises:
        ValueError: The spec names a port that is not handed over, or a certificate that cannot be used.
    """

    def __init__(self, spec: GateSpec, handler: Handler, listeners: Listeners) -> None:
        self._handler = handler
        self._listeners = listeners
        self._tls_port = spec.tls.port if spec.tls else None
        self._tls = tls_context(spec.tls.certificate, Secret(spec.tls.key)) if spec.tls else None
        if self._tls_port is not None and self._tls_port not in spec.ports:
            raise ValueError(f"port {self._tls_port} is not among those that the gate hands over")

    async def serve(self, sockets: Sequence[socket.socket]) -> Stop:
        """Serve listeners, each by its port; returns what ends this, connections included."""
        stops: list[Stop] = []
        plain: list[socket.socket] = []

        async def stop() -> None:
            for each in stops:
                await each()

        try:
            for sock in sockets:
                if self._tls is not None and sock.getsockname()[1] == self._tls_port:
                    stops.append(await self._listeners.on_tls_socket(self._handler, sock, self._tls))
                else:
                    plain.append(sock)
            stops.append(await self._listeners.on_sockets(self._handler, plain))
        except BaseException:
            await stop()
            raise
        return stop
