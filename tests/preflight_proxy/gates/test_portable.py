"""Portable gates: who gets in, as whom, to what; and what ends with the forwarder."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import GateSpec
from preflight_proxy.core.gate_proof import CLAIM_BYTES, NONCE_CHARS, Side, pass_id, proof_of
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.portable import (
    UNAUTHENTICATED_MAX,
    UNAUTHENTICATED_PER_ADDRESS_MAX,
    ForwarderListener,
    PortableGate,
    UnauthenticatedConnections,
)
from preflight_proxy.gates.ports import GatePorts, Streams
from preflight_proxy.gates.shared import GateState
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.control_world import Controlled, controlled
from tests.support.gate_places import echo, place
from tests.support.proxy_world import chat
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

PORT = 8788
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere loopback has one address, and sockets no interface"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    """A proxy with an address for forwarders, without any account yet."""
    async with controlled(tmp_path, portal="127.0.0.1:0") as made:
        yield made


def pass_of(name: str) -> str:
    return name[0] * 43


def gate(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"socket": None, "ports": [PORT], "portal_pass": pass_of(name), **more}


async def connect(world: Controlled, source: str = "127.0.0.1") -> Streams:
    """Connect, and send nothing yet."""
    assert world.proxy.portal is not None
    host, _, port = world.proxy.portal.rpartition(":")
    return await asyncio.open_connection(host, int(port), local_addr=(source, 0))


async def claim(streams: Streams, trial_pass: str, port: int = PORT) -> str:
    """Send the claim of a pass; returns the proof that must come back."""
    theirs, ours = (await streams[0].readexactly(NONCE_CHARS)).decode(), "0" * NONCE_CHARS
    proof = proof_of(Side.FORWARDER, trial_pass, theirs, ours, port)
    line = f"AP2 {pass_id(trial_pass)} {ours} {port:05d} {proof}\n".encode()
    assert len(line) == CLAIM_BYTES
    streams[1].write(line)
    return proof_of(Side.PORTAL, trial_pass, theirs, ours, port)


async def show(world: Controlled, trial_pass: str, port: int = PORT) -> Streams:
    """Authenticate as a forwarder."""
    streams = await connect(world)
    due = await claim(streams, trial_pass, port)
    assert (await streams[0].readexactly(len(due))).decode() == due
    return streams


async def refused(world: Controlled, trial_pass: str, port: int = PORT) -> None:
    """Connect as a forwarder that is refused."""
    streams = await connect(world)
    await claim(streams, trial_pass, port)
    assert await ends(streams) == b""


async def watch(world: Controlled, name: str = "a") -> Streams:
    """Open the watch of a forwarder that has the gate's listeners."""
    return await show(world, pass_of(name), 0)


async def ends(streams: Streams) -> bytes:
    """Everything up to the end that the proxy makes."""
    async with asyncio.timeout(20):
        try:
            rest = await streams[0].read()
        except ConnectionError:
            rest = b""
    streams[1].close()
    return rest


async def call(world: Controlled, token: str, name: str = "a") -> tuple[int, Any]:
    content = json.dumps(chat()).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    async with Raw(*await show(world, pass_of(name))) as agent:
        agent.send(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, _, body = await agent.answer()
    return status, json.loads(body)


async def get(world: Controlled, path: str, token: str) -> int:
    async with Raw(*await show(world, pass_of("a"))) as agent:
        agent.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        return (await agent.answer())[0]


async def test_calls_of_a_forwarder_with_its_pass_are_served_and_posted(world: Controlled) -> None:
    balance = await world.put("a", gate=gate())
    assert balance["gate"] == "waiting"
    watching = await watch(world)
    watching[1].write(b"." * 100)
    status, answer = await call(world, world.tokens["a"])
    assert status == 200
    assert answer["usage"]["cost"] > 0
    _, balance = await world.ask("GET", "/accounts/a")
    assert (balance["gate"], balance["calls"]) == ("ready", 1)
    watching[1].close()


async def test_another_accounts_token_is_refused_behind_a_pass(world: Controlled) -> None:
    await world.put("a", gate=gate())
    await world.put("b", gate=gate("b"))
    watching = [await watch(world), await watch(world, "b")]
    assert (await call(world, world.tokens["b"]))[0] == 401
    assert (await call(world, world.tokens["b"], "b"))[0] == 200
    for each in watching:
        each[1].close()


async def test_without_a_pass_nothing_is_served_and_with_one_the_control_socket_is_not(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    await refused(world, "x" * 43)
    for garbage in (
        b"GET /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * CLAIM_BYTES,
        b"\0" * CLAIM_BYTES,
        b"AP2 short\n",
    ):
        streams = await connect(world)
        streams[1].write(garbage)
        streams[1].write_eof()
        assert len(await ends(streams)) <= NONCE_CHARS
    for path in ("/accounts", "/quarantine", "/events?run=run", "/api/v1/../../accounts"):
        assert await get(world, path, world.tokens["a"]) == 404
    watching[1].close()


async def test_a_port_that_the_gate_has_not_leads_nowhere_and_none_does_before_the_watch(world: Controlled) -> None:
    await world.put("a", gate=gate())
    await refused(world, pass_of("a"))
    watching = await watch(world)
    await refused(world, pass_of("a"), 22)
    watching[1].close()


async def test_a_forwarder_that_goes_freezes_its_account_and_cannot_come_back(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    watching[1].close()
    await world.frozen("a", "gate lost")
    await refused(world, pass_of("a"), 0)
    await refused(world, pass_of("a"))


async def test_a_closed_account_refuses_its_forwarder(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    carried = await show(world, pass_of("a"))
    assert (await world.ask("DELETE", "/accounts/a?force=1"))[0] == 200
    assert await ends(carried) == b""
    await refused(world, pass_of("a"))
    watching[1].close()


async def test_a_service_is_relayed_byte_for_byte_and_counted(world: Controlled) -> None:
    async with place(echo) as target:
        services = [{"name": "los", "port": 3000, "target": f"127.0.0.1:{target}"}]
        await world.put("a", gate=gate(ports=[PORT, 3000], services=services))
        watching = await watch(world)
        reader, writer = await show(world, pass_of("a"), 3000)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        assert world.proxy.ledger.account_state("a").traffic["los"].received_bytes == 5
        watching[1].close()


async def test_a_proxy_without_an_address_for_forwarders_refuses_portable_gates(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        for wrong in (gate(), {"socket": None, "ports": [PORT]}, gate() | {"socket": "/s"}):
            spec = {"limit_usd": "1", "token": "pf-t", "key": "k", "gate": wrong}
            status, problem = await world.ask("PUT", "/accounts/a", spec)
            assert status == 400, problem


async def test_two_proxies_do_not_share_an_address_for_forwarders(tmp_path: Path, world: Controlled) -> None:
    (tmp_path / "other").mkdir()
    config = Config(data=str(tmp_path / "other"), upstream=world.sim.base_url, portal=world.proxy.portal)
    with pytest.raises(Exception, match="portable gates"):
        async with running(config):
            pass


async def test_a_proof_is_refused_on_another_connection(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching, first = await watch(world), await connect(world)
    theirs, ours = (await first[0].readexactly(NONCE_CHARS)).decode(), "0" * NONCE_CHARS
    overheard = proof_of(Side.FORWARDER, pass_of("a"), theirs, ours, PORT)
    again = await connect(world)
    again[1].write(f"AP2 {pass_id(pass_of('a'))} {ours} {PORT:05d} {overheard}\n".encode())
    assert len(await ends(again)) == NONCE_CHARS
    for each in (watching, first):
        each[1].close()


@on_linux
async def test_a_flood_without_a_pass_does_not_lock_out_forwarders_and_is_counted(world: Controlled) -> None:
    """More connections than the limits, from one address and from many; the oldest are closed."""
    await world.put("a", gate=gate())
    one_address = [await connect(world) for _ in range(UNAUTHENTICATED_PER_ADDRESS_MAX + 10)]
    for each in one_address[:10]:
        assert len(await ends(each)) == NONCE_CHARS
    addresses = [f"127.0.1.{number % 250 + 1}" for number in range(UNAUTHENTICATED_MAX)]
    many = [await connect(world, source) for source in addresses]
    watching = await watch(world)
    assert (await call(world, world.tokens["a"]))[0] == 200
    for each in (watching, *one_address, *many):
        each[1].transport.abort()


@pytest.fixture
async def alone() -> AsyncIterator[tuple[PortableGate, tuple[str, int], asyncio.Queue[GateState]]]:
    """A gate without a proxy: the gate, the address for its forwarder, and the states that it goes through."""
    states: asyncio.Queue[GateState] = asyncio.Queue()
    forwarders, trial_pass = ForwarderListener(), pass_of("a")
    gate_ports = GatePorts(GateSpec(None, (PORT,), portal_pass=Secret(trial_pass)), no_handler, Listeners())
    gate = PortableGate(
        "a", Secret(trial_pass), [PORT], forwarders, gate_ports.serve, states.put_nowait, silent_s_max=1.0
    )
    await gate.open()
    yield gate, forwarders.listen("127.0.0.1", 0), states
    await gate.close()
    await forwarders.close()


async def test_the_pass_of_a_closed_gate_is_refused(
    alone: tuple[PortableGate, tuple[str, int], asyncio.Queue[GateState]],
) -> None:
    gate, address, states = alone
    await gate.close()
    streams = await asyncio.open_connection(*address)
    await claim(streams, pass_of("a"), 0)
    assert await ends(streams) == b""
    assert states.empty()


async def test_a_forwarder_that_falls_silent_is_lost(
    alone: tuple[PortableGate, tuple[str, int], asyncio.Queue[GateState]],
) -> None:
    _, address, states = alone
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*address)
        await claim((reader, writer), pass_of("a"), 0)
        assert await states.get() is GateState.READY
        writer.write(b".")
        assert await states.get() is GateState.LOST
    assert len(await ends((reader, writer))) == 64


async def turns(count: int) -> None:
    """Run the loop for so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_proxy_that_stood_still_itself_takes_no_forwarder_for_silent(
    alone: tuple[PortableGate, tuple[str, int], asyncio.Queue[GateState]],
) -> None:
    gate, address, states = alone
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*address)
        await claim((reader, writer), pass_of("a"), 0)
        assert await states.get() is GateState.READY
        assert await reader.readexactly(64)
        await turns(100)
        time.sleep(0.6)  # noqa: ASYNC251 - the loop stands still for longer than a forwarder may be silent
        writer.write(b".")
        await turns(100)
    assert gate.state is GateState.READY
    writer.close()


async def test_a_forwarder_that_authenticated_while_the_gate_closes_is_not_served(
    alone: tuple[PortableGate, tuple[str, int], asyncio.Queue[GateState]],
) -> None:
    gate, address, states = alone
    async with asyncio.timeout(30):
        watching = await asyncio.open_connection(*address)
        await claim(watching, pass_of("a"), 0)
        assert await states.get() is GateState.READY
        await gate.close()
        here, there = socket.socketpair()
        await gate.serve(here, PORT, b"proof")
        there.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(there, 16) == b""
    there.close()
    watching[1].close()


async def no_handler(request: ServerRequest) -> None:
    raise AssertionError("nothing is asked here")


@on_linux
async def test_only_connections_by_the_named_interface_are_accepted() -> None:
    """Loopback alone is there in every namespace; an address of another interface is not reached through it."""
    forwarders = ForwarderListener()
    host, port = forwarders.listen("127.0.0.1%lo", 0)
    assert host == "127.0.0.1%lo"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert len(await reader.readexactly(NONCE_CHARS)) == NONCE_CHARS
    writer.close()
    await forwarders.close()
    with pytest.raises(OSError, match="No such device"):
        ForwarderListener().listen("127.0.0.1%none-such", 0)


def test_a_pass_is_not_printed() -> None:
    assert pass_of("a") not in repr(GateSpec(None, (PORT,), portal_pass=Secret(pass_of("a"))))


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def come(connections: UnauthenticatedConnections, held: ExitStack, address: str) -> socket.socket:
    """Connect; returns the other end."""
    here, there = (held.enter_context(end) for end in socket.socketpair())
    held.enter_context(connections.one(here, address))
    there.settimeout(20)
    return there


def is_cut_off(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_at_the_limit_of_an_address_its_oldest_connection_is_closed(held: ExitStack) -> None:
    connections = UnauthenticatedConnections(per_address_max=2, total_max=10)
    other = come(connections, held, "other")
    crowd = [come(connections, held, "crowd") for _ in range(4)]
    assert [is_cut_off(end) for end in crowd] == [True, True, False, False]
    assert not is_cut_off(other)
    assert (len(connections), connections.closed_count) == (3, 2)


def test_at_the_limit_of_all_the_oldest_connection_is_closed(held: ExitStack) -> None:
    connections = UnauthenticatedConnections(per_address_max=2, total_max=3)
    ends = [come(connections, held, str(number)) for number in range(5)]
    assert [is_cut_off(end) for end in ends] == [True, True, False, False, False]
    assert (len(connections), connections.closed_count) == (3, 2)


def test_a_connection_that_has_ended_does_not_count(held: ExitStack) -> None:
    connections = UnauthenticatedConnections(per_address_max=1, total_max=1)
    for _ in range(3):
        with ExitStack() as visit:
            come(connections, visit, "one")
    assert (len(connections), connections.closed_count) == (0, 0)
