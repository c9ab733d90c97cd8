"""Portable gates: a forwarder container on the bridge network carries a gate's connections to the proxy.

A portable gate is for engines that share no unix socket with this machine, such as Docker Desktop. The gate itself stays as it
is, without any network if the trial is sealed. It hands its listeners to the forwarder, over a volume inside the engine. The
forwarder connects to the proxy over TCP, and shows it the trial's pass. An agent has no more network than with a shared gate.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import forwarder_config
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import ForwarderTarget, Step

HOST_NAME = "host.docker.internal"
"""This machine, for containers of an engine that runs in a virtual machine."""
_BRIDGE_NAME = "com.docker.network.bridge.name"


class Forwarder:
    """One trial's forwarder, and the volume that it shares with the gate."""

    def __init__(self, engine: Engine, labels: TrialLabels, target: ForwarderTarget) -> None:
        self._engine, self._labels, self._target = engine, labels, target
        self._volume = labels.name("volume")
        self._container = Container(engine, labels.name("forwarder"), "the gate's forwarder", owns_network=True)
        self._has_volume = False

    async def open(self, image: str, ports: Sequence[int]) -> None:
        """Make the volume and start the forwarder, which then waits for the gate.

        Args:
            image: The gate image's id.
            ports: What the gate hands over.

        Raises:
            DockerError: The engine refused; `close` removes what was made.
        """
        self._has_volume = True
        await self._engine.make_volume(self._volume, self._labels.labels("volume"))
        await self._container.create(forwarder_config(self._labels, self._target, image, ports))
        await self._container.start()

    async def close(self) -> dict[str, Step]:
        """Remove forwarder and volume, after the gate is gone; `"ok"` only for what is seen to be gone."""
        step = await self._container.end()
        return {"forwarder": step, "volume": await self._remove_volume() if self._has_volume else "ok"}

    async def _remove_volume(self) -> Step:
        for _ in range(2):  # the second call sees that it is gone
            try:
                await self._engine.remove_volume(self._volume)
            except DockerError as exc:
                return "ok" if exc.failure is Failure.GONE else "unverified"
        return "failed"


@dataclass(frozen=True, slots=True)
class ForwarderAddress:
    """Where the proxy listens for forwarders: one address, as each side writes it.

    Attributes:
        listen_host: For the proxy: never all addresses. `%` and an interface after it limit it to what arrives by that.
        host: For forwarders.
    """

    listen_host: str
    host: str

    @property
    def advice(self) -> str:
        """What a firewall must allow."""
        interface = self.listen_host.partition("%")[2]
        if not interface:
            return f"let the Docker engine connect to {self.listen_host}, TCP"
        return (
            f"let it accept TCP from the interface {interface} to {self.host}, for instance by "
            f"`sudo ufw allow in on {interface} to {self.host} proto tcp`"
        )


async def forwarder_address(engine: Engine) -> ForwarderAddress:
    """Return where the proxy listens for forwarders.

    An engine on this machine has its bridge among our interfaces, and containers arrive by that. An engine in a virtual
    machine (Docker Desktop) has not; it carries `host.docker.internal` to our loopback.

    Raises:
        DockerError: The engine has no bridge network, or did not answer.
    """
    options = (await engine.network("bridge")).get("Options") or {}
    interface = str(options.get(_BRIDGE_NAME) or "docker0")
    address = interface_address(interface)
    if address is None:
        return ForwarderAddress("127.0.0.1", HOST_NAME)
    return ForwarderAddress(f"{address}%{interface}", address)


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of one of this machine's interfaces; None if there is none of that name."""
    addresses = psutil.net_if_addrs().get(name, ())
    return next((each.address for each in addresses if each.family == socket.AF_INET), None)
