"""What host and proxy both need of gates: a namespace's cookie, a listener for forwarders, and the proof of a pass."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Callable

from preflight_proxy.core.gate_proof import CLAIM_BYTES, NONCE_BYTES, Claim, claim_holds, portal_proof, read_claim
from preflight_proxy.core.secret import Secret

SO_NETNS_COOKIE = 71
"""Linux 5.14 and later: a number that names a socket's network namespace. The proxy takes no listeners without it."""


def netns_cookie(sock: socket.socket | None = None) -> int | None:
    """Return the cookie of a socket's network namespace, by default our own; None if the kernel has none."""
    if sock is None:
        with socket.socket() as own:
            return netns_cookie(own)
    try:
        return int(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0])
    except (OSError, struct.error):
        return None


def listen_for_forwarders(host: str, port: int) -> socket.socket:
    """Listen on TCP; the socket does not block.

    Args:
        host: An address. `ADDRESS%INTERFACE` accepts only connections that arrive by that interface: none from neighbours of
            this machine or from its other networks, though they may have a route to the address.
        port: 0 for any that is free.

    Raises:
        OSError: The address cannot be bound.
    """
    address, _, interface = host.partition("%")
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface:
            with contextlib.suppress(PermissionError):  # before Linux 5.7 only root may bind to an interface
                server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        server.bind((address, port))
        server.listen(1024)
        server.setblocking(False)
    except BaseException:
        server.close()
        raise
    return server


async def authenticate(connection: socket.socket, pass_of: Callable[[str], Secret | None]) -> tuple[Claim, bytes]:
    """Have a forwarder prove its pass; return its claim, and the proof that it waits for.

    Not one byte more than the claim is read: what follows is the agent's.

    Args:
        connection: The forwarder's.
        pass_of: Returns the pass of this id; None if there is none.

    Raises:
        OSError: It proved no pass.
    """
    loop, nonce, line = asyncio.get_running_loop(), secrets.token_hex(NONCE_BYTES), b""
    await loop.sock_sendall(connection, nonce.encode())
    while len(line) < CLAIM_BYTES:
        chunk = await loop.sock_recv(connection, CLAIM_BYTES - len(line))
        if not chunk:
            raise ConnectionResetError("it left before it had proved a pass")
        line += chunk
    claim = read_claim(line)
    if claim is None:
        raise PermissionError("what connected is no forwarder")
    trial_pass = pass_of(claim.pass_id)
    if trial_pass is None or not claim_holds(claim, trial_pass.reveal(), nonce):
        raise PermissionError("the pass is no trial's")
    return claim, portal_proof(claim, trial_pass.reveal(), nonce)
