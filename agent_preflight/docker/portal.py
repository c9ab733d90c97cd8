"""Where a proxy on this machine listens for forwarders of portable gates, and how containers of this engine reach that place."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
from dataclasses import dataclass

from agent_preflight.engine.client import Engine

HOST_NAME = "host.docker.internal"
"""This machine, for containers of an engine that runs in a virtual machine."""
_SIOCGIFADDR = 0x8915
_BRIDGE_NAME = "com.docker.network.bridge.name"


@dataclass(frozen=True, slots=True)
class ForwarderAddress:
    """Two names of one address.

    Attributes:
        listen_host: For the proxy: never all addresses, and with `%` and an interface behind it only what arrives by that.
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

    An engine beside us has a bridge among this machine's interfaces, and its containers come by that. An engine in a virtual
    machine (Docker Desktop) has not; it carries its host name to our loopback.

    Raises:
        DockerError: The engine has no bridge network, or did not answer.
    """
    options = (await engine.network("bridge")).get("Options") or {}
    interface = str(options.get(_BRIDGE_NAME) or "docker0")
    address = interface_address(interface)
    return (
        ForwarderAddress("127.0.0.1", HOST_NAME)
        if address is None
        else ForwarderAddress(f"{address}%{interface}", address)
    )


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of one of this machine's interfaces; None if there is none of that name, or not on Linux."""
    if sys.platform != "linux":
        return None
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        return socket.inet_ntoa(fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24])
    return None
