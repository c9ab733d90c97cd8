"""What the proxy is told to open a trial's account: its budget, its key, and its gate with what stands behind each port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_preflight.base.usd import usd
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


@dataclass(frozen=True, slots=True)
class Account:
    """What the proxy is told to open an account.

    Attributes:
        id: The trial's alias.
        run: The run's id.
        limit_pusd: The budget.
        keep_limit: An account that the ledger knows keeps the limit that it has there.
        token, key: The trial token, and the real sub-key.
        budget_file, budget_mode: Where budget.txt is kept, `"detailed"` or `"simple"`.
        gate: For a trial in a container.
    """

    id: str
    run: str
    limit_pusd: int
    token: Secret
    key: Secret
    budget_file: Path
    budget_mode: str = "simple"
    gate: Gate | None = None
    keep_limit: bool = False

    def document(self) -> dict[str, Any]:
        """Return the body of `PUT /accounts/{id}`; it holds the key and the token."""
        return {
            "run": self.run,
            "limit_usd": format(usd(self.limit_pusd), "f"),
            "keep_limit": self.keep_limit,
            "token": self.token.reveal(),
            "key": self.key.reveal(),
            "key_is_own": True,
            "models": None,
            "budget_file": str(self.budget_file),
            "budget_mode": self.budget_mode if self.budget_mode == "detailed" else "simple",
            "gate": self.gate and self.gate.document(),
        }
