"""Where a proxy on this machine listens for forwarders of portable gates, and how containers of this engine reach that place."""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import sys
from dataclasses import dataclass

from agent_preflight.docker.cli import Docker

HOST_NAME = "host.docker.internal"
"""This machine, for containers of an engine that runs in a virtual machine."""
_SIOCGIFADDR = 0x8915
_BRIDGE_NAME = "com.docker.network.bridge.name"


@dataclass(frozen=True, slots=True)
class PortalPlace:
    """Two names of one address.

    Attributes:
        listen_host: For the proxy. Never all addresses: only containers of this engine, and this machine, shall reach it.
        host: For forwarders.
    """

    listen_host: str
    host: str


async def portal_place(docker: Docker) -> PortalPlace:
    """Return where the proxy listens for forwarders.

    An engine beside us has a bridge among this machine's interfaces: its address is reached from containers, and from nowhere
    outside. An engine in a virtual machine (Docker Desktop) has not; it carries its host name to our loopback.

    Raises:
        DockerError: The engine has no bridge network, or did not answer.
    """
    printed = await docker.must(
        "looking at the bridge network", "network", "inspect", "bridge", "-f", "{{json .Options}}"
    )
    options = json.loads(printed or "{}") or {}
    address = interface_address(str(options.get(_BRIDGE_NAME) or "docker0"))
    return PortalPlace("127.0.0.1", HOST_NAME) if address is None else PortalPlace(address, address)


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of one of this machine's interfaces; None if there is none of that name, or not on Linux."""
    if sys.platform != "linux":
        return None
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        return socket.inet_ntoa(fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24])
    return None
