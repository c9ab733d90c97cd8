"""What the proxy is told of a trial's gate: where it hands its listeners over, and what stands behind each port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflight_proxy.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Tls:
    """What the proxy needs to be taken for `openrouter.ai` on one of a gate's ports; texts in PEM."""

    port: int
    certificate: str
    key: Secret

    def document(self) -> dict[str, Any]:
        """Return its part of the body of `PUT /accounts/{id}`; it holds the key."""
        return {"port": self.port, "certificate": self.certificate, "key": self.key.reveal()}


@dataclass(frozen=True, slots=True)
class Opening:
    """A service that the proxy relays to: its name, its port at the gate, its place as `HOST:PORT`."""

    name: str
    port: int
    target: str

    def document(self) -> dict[str, Any]:
        """Return its part of the body of `PUT /accounts/{id}`."""
        return {"name": self.name, "port": self.port, "target": self.target}


@dataclass(frozen=True, slots=True)
class WayOut:
    """An HTTP proxy's port at the gate, and the places, as `HOST:PORT`, to which it leads."""

    port: int
    allow: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return its part of the body of `PUT /accounts/{id}`."""
        return {"port": self.port, "allow": list(self.allow)}


@dataclass(frozen=True, slots=True)
class Gate:
    """Where a trial's gate hands its listeners over.

    Attributes:
        socket: None for a portable gate.
        ports: All of them, in the order of the hand-over.
        tls: The one that serves TLS.
        services: Those that lead to a service each.
        egress: The one that is an HTTP proxy.
        portal_pass: What a portable gate's forwarder shows; None for a gate that hands over.
    """

    socket: Path | None
    ports: tuple[int, ...]
    tls: Tls | None = None
    services: tuple[Opening, ...] = ()
    egress: WayOut | None = None
    portal_pass: Secret | None = None

    def document(self) -> dict[str, Any]:
        """Return its part of the body of `PUT /accounts/{id}`; it may hold a key."""
        return {
            "socket": None if self.socket is None else str(self.socket),
            "ports": list(self.ports),
            "tls": self.tls and self.tls.document(),
            "services": [service.document() for service in self.services],
            "egress": self.egress and self.egress.document(),
            "portal_pass": self.portal_pass and self.portal_pass.reveal(),
        }
