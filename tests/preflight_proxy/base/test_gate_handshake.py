"""How host and proxy meet a gate: namespaces, the listener for forwarders, and the proof of a pass."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from preflight_proxy.base.gate_handshake import authenticate, listen_for_forwarders, netns_cookie
from preflight_proxy.core.gate_proof import NONCE_CHARS, Side, pass_id, proof_of
from preflight_proxy.core.secret import Secret

pytestmark = pytest.mark.wire

PASS, OWN_NONCE = "p" * 43, "0" * NONCE_CHARS
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere sockets have no namespace and no interface")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The proxy's end of a connection, and the forwarder's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(10)
        yield ours, theirs


def line(nonce: str, trial_pass: str = PASS, port: int = 8788) -> bytes:
    proof = proof_of(Side.FORWARDER, trial_pass, nonce, OWN_NONCE, port)
    return f"AP2 {pass_id(trial_pass)} {OWN_NONCE} {port:05d} {proof}\n".encode()


async def test_a_forwarder_that_proves_its_pass_is_named_and_not_one_byte_of_the_agent_is_read(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    authenticating = asyncio.ensure_future(authenticate(ours, {pass_id(PASS): Secret(PASS)}.get))
    nonce = (await asyncio.to_thread(theirs.recv, 100)).decode()
    data = line(nonce) + b"GET / HTTP/1.1"
    for piece in (data[:60], data[60:]):
        theirs.sendall(piece)
        await asyncio.sleep(0.01)
    claim, proof = await authenticating
    assert (claim.pass_id, claim.port) == (pass_id(PASS), 8788)
    assert proof.decode() == proof_of(Side.PORTAL, PASS, nonce, OWN_NONCE, 8788)
    assert ours.recv(100) == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n" * 10,
        line(OWN_NONCE),  # of another connection's nonce
        line(OWN_NONCE, "q" * 43),  # a pass that no trial has
        b"AP2",  # and leaves
    ],
)
async def test_a_connection_that_proves_no_pass_is_an_error(
    said: bytes, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    theirs.sendall(said)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises((PermissionError, ConnectionResetError)):
        await authenticate(ours, {pass_id(PASS): Secret(PASS)}.get)


async def test_every_connection_gets_a_nonce_of_its_own() -> None:
    nonces = set()
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                await authenticate(ours, lambda _: None)
            nonces.add(theirs.recv(100))
    assert len(nonces) == 3


@on_linux
def test_the_listener_is_at_the_address_and_at_the_interface() -> None:
    with listen_for_forwarders("127.0.0.1%lo", 0) as server:
        assert server.getsockname()[0] == "127.0.0.1"
        assert not server.getblocking()
        bound = server.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
        assert bound in (b"lo", b"")  # before Linux 5.7 only root may bind to an interface
    with pytest.raises(OSError):
        listen_for_forwarders("127.0.0.1%nosuchinterface"[:24], 0)


@on_linux
def test_sockets_of_one_namespace_have_one_cookie() -> None:
    with socket.socket() as one:
        assert netns_cookie(one) == netns_cookie()


def test_a_socket_without_a_namespace_has_no_cookie() -> None:
    one = socket.socket()
    one.close()
    assert netns_cookie(one) is None
