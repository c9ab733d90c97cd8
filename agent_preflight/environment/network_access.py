"""What agents may reach besides the proxy: the services and the egress list that the user names. Pure.

A service has a name for agents, its own port at the gate, and a target that the proxy connects to. An egress list makes the gate
an HTTP proxy for its targets only. Agents that run as processes of this machine reach all of that by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from agent_preflight.environment.variables import GATE_PORT, TLS_PORT, own_proxy, proxy_env
from agent_preflight.options.container_options import SEALED
from preflight_proxy.base.control_messages import EgressSpec, ServiceSpec
from preflight_proxy.core.egress import Target, read_target
from preflight_proxy.core.errors import ConfigError

EGRESS_PORT = 8789
"""The port of the HTTP proxy inside a container."""
SERVICES_MAX = 32
"""Each is a listener, with connections of its own, for each trial."""
OURS = frozenset({"localhost", "openrouter.ai", "host.docker.internal", "egress"})
"""Names that no service can have."""


class Service(msgspec.Struct, frozen=True):
    """A service that agents reach.

    Attributes:
        label: Its name as the user wrote it, with its port if it has one.
        host: Its name for agents.
        port: Its port for agents.
        target: Where it is, seen from this machine.
    """

    label: str
    host: str
    port: int
    target: Target


class NetworkAccess(msgspec.Struct, frozen=True):
    """What a run's agents may reach besides the proxy.

    Attributes:
        egress: The places on the egress list; empty for none.
    """

    services: tuple[Service, ...] = ()
    egress: tuple[Target, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that a gate opens, in the order of the hand-over."""
        own = (EGRESS_PORT,) if self.egress else ()
        return (GATE_PORT, TLS_PORT, *own, *(service.port for service in self.services))

    @property
    def names(self) -> dict[str, str]:
        """The services' names for agents, each with one of its targets."""
        return {service.host: str(service.target) for service in self.services}

    @property
    def openings(self) -> tuple[ServiceSpec, ...]:
        """The services in the form of the control messages."""
        return tuple(ServiceSpec(each.label, each.port, str(each.target)) for each in self.services)

    @property
    def way_out(self) -> EgressSpec | None:
        """The egress list in the form of the control messages; None if it is empty."""
        return EgressSpec(EGRESS_PORT, tuple(map(str, self.egress))) if self.egress else None

    def document(self) -> dict[str, Any]:
        """Return the document that plan.json has."""
        return {
            "services": {each.label: str(each.target) for each in self.services},
            "egress": [str(place) for place in self.egress],
        }


def read_network_access(
    services: Mapping[str, str] | None, egress: Iterable[str] | None, network: str
) -> NetworkAccess:
    """Return the network access that the user asks for.

    Args:
        services: Name to `HOST:PORT`; the name may have a port of its own for agents, `name:PORT`.
        egress: `HOST:PORT` each.
        network: What agents have besides; an egress list is for sealed trials.

    Raises:
        ConfigError: A name or place cannot be used, or two services would need one port.
    """
    if isinstance(egress, str):
        raise ConfigError(f"egress is a list of places, such as ['pypi.org:443'], not {egress!r}.")
    reach = NetworkAccess(
        tuple(_service(str(label), str(target)) for label, target in (services or {}).items()),
        tuple(_place("egress", str(place)) for place in egress or ()),
    )
    if reach.egress and network not in (SEALED, "host"):
        raise ConfigError(
            f"An egress list limits a sealed trial, but network={network!r} has no limits: use network='sealed'."
        )
    _check_ports(reach.services)
    return reach


def _check_ports(services: Sequence[Service]) -> None:
    if len(services) > SERVICES_MAX:
        raise ConfigError(f"A run has at most {SERVICES_MAX} services.")
    taken = dict.fromkeys((GATE_PORT, TLS_PORT, EGRESS_PORT), "the proxy itself")
    for service in services:
        if service.port in taken:
            raise ConfigError(
                f"The service {service.label!r} needs port {service.port} inside the trial, which {taken[service.port]} has: "
                f"write '{service.host}:PORT' to give it another one there."
            )
        taken[service.port] = repr(service.label)


def _service(label: str, target: str) -> Service:
    place = _place(f"services[{label!r}]", target)
    try:
        named = read_target(label if re.search(r":[0-9]+$", label) else f"{label}:{place.port}")
    except ValueError:
        raise ConfigError(
            f"A service's name must be a host name, or HOST:PORT to give agents another port than the target's, not {label!r}."
        ) from None
    if named.host in OURS or ":" in named.host or re.fullmatch(r"[0-9.]+", named.host):
        raise ConfigError(f"No service can be named {named.host!r}.")
    return Service(label.lower(), named.host, named.port, place)


def _place(where: str, text: str) -> Target:
    try:
        return read_target(text)
    except ValueError as exc:
        raise ConfigError(f"{where}: {exc}.") from None


def network_env(
    reach: NetworkAccess,
    user: Mapping[str, str],
    *,
    in_container: bool,
    network: str,
    image: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the variables for services and HTTP proxies. Those that the user sets are left out, except NO_PROXY.

    `PREFLIGHT_SERVICE_NAME` is a service's `HOST:PORT` as this agent reaches it.

    Args:
        reach: The services and the egress list.
        user: The user's own variables.
        in_container: The agent reaches services by their names at the gate.
        network: The container's network besides its gate.
        image: The variables of the agents' image.
    """
    env = {
        "PREFLIGHT_SERVICE_" + re.sub(r"[^A-Z0-9]", "_", each.label.upper()): (
            f"{each.host}:{each.port}" if in_container else str(each.target)
        )
        for each in reach.services
    }
    gates = ["openrouter.ai", *(service.host for service in reach.services)] if in_container else []
    proxies = proxy_env(
        user,
        image or {},
        past=["127.0.0.1", "localhost", *gates],
        egress=f"http://127.0.0.1:{EGRESS_PORT}" if reach.egress and in_container else None,
        sealed=in_container and network == SEALED,
    )
    return {name: value for name, value in env.items() if name not in user} | proxies


def network_warnings(reach: NetworkAccess, user: Mapping[str, str], *, in_container: bool) -> list[str]:
    """Return what a person should know about the services and the egress list before a run."""
    if not in_container:
        named = [name for name, used in (("services", reach.services), ("egress", reach.egress)) if used]
        return (
            [f"{' and '.join(named)} have no effect without containers: agents reach what you reach"] if named else []
        )
    if reach.egress and (own := own_proxy(user)):
        return [
            f"{', '.join(own)} in env is yours: the egress list is served at http://127.0.0.1:{EGRESS_PORT} all the same"
        ]
    return []


def proxy_warnings(reach: NetworkAccess, user: Mapping[str, str], network: str) -> list[str]:
    """Return a warning if the user's own proxy wins in a container without a network."""
    own = [name for name in own_proxy(user) if user[name]]
    if not own or reach.egress or network != SEALED:
        return []
    whose = "is" if len(own) == 1 else "are"
    return [
        f"{', '.join(own)} in env {whose} yours: in a sealed trial a proxy is reached only if it is one of the services"
    ]
