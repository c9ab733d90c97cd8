"""Says what each port of a gate serves: the API, in plain HTTP or in TLS (C10), a service, or egress.

A shared gate hands its listeners over. A portable gate's connections come one by one, from its forwarder.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial

from preflight_proxy.base.control_messages import GateSpec
from preflight_proxy.core.egress import read_target
from preflight_proxy.gates.services import EgressRules, open_egress, open_service
from preflight_proxy.ledger.account_state import Traffic
from preflight_proxy.server.acceptor import Acceptor, stop_all
from preflight_proxy.server.certificate import tls_context
from preflight_proxy.server.listeners import Handler, Listeners

EGRESS = "egress"
"""Under this name the traffic of a trial's egress is counted; no service can have it."""


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
        ValueError: The spec names a port that is not handed over, a port or service twice, a place that is none, or a
            certificate that cannot be used.
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
        """Serve each port on its listener, or, where that is None, what is given to its acceptor.

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
