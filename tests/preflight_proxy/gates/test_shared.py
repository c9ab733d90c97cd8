"""Hand-overs over real unix sockets from real network namespaces: what is taken, what is not, and what ends it (C1-C4)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from preflight_proxy.base.control_messages import GateSpec
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.gates.ports import GatePorts
from preflight_proxy.gates.shared import TAKEN, GateState, HandoverRefusedError, Namespaces, SharedGate
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.network_namespace import Namespace
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

PORTS = (8788, 443)
Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@dataclass
class Proxy:
    """The part of a proxy that gates connect to."""

    path: Path
    listeners: Listeners = field(default_factory=Listeners)
    namespaces: Namespaces = field(default_factory=Namespaces)
    states: asyncio.Queue[tuple[str, GateState]] = field(default_factory=asyncio.Queue)
    gates: list[SharedGate] = field(default_factory=list)

    async def gate(self, account: str = "a", ports: Sequence[int] = PORTS, handover_s_max: float = 30.0) -> SharedGate:
        """An open gate whose answers name its account."""

        async def handle(request: ServerRequest) -> None:
            request.response.answer(200, [], account.encode())

        gate = SharedGate(
            account,
            self.path / f"{account}.sock",
            ports,
            self.namespaces,
            GatePorts(GateSpec("/none", tuple(ports)), handle, self.listeners).serve,
            lambda state: self.states.put_nowait((account, state)),
            handover_s_max=handover_s_max,
        )
        await gate.open()
        self.gates.append(gate)
        return gate

    async def becomes(self, state: GateState, account: str = "a") -> None:
        """Wait for the next change of any gate, which must be this one."""
        async with asyncio.timeout(30):
            assert await self.states.get() == (account, state)


@contextlib.asynccontextmanager
async def proxy(path: Path) -> AsyncIterator[Proxy]:
    made = Proxy(path)
    yield made
    for gate in made.gates:
        await gate.close()
    await made.listeners.close()


def hand_over(path: Path, fds: Sequence[int], message: bytes = b"G") -> socket.socket:
    """Do what a gate does; returns its connection."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
        socket.send_fds(connection, [message], list(fds))
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


async def hears(connection: socket.socket) -> bytes:
    """What a gate hears: one answer, or b"" for the end."""
    async with asyncio.timeout(30):
        try:
            heard: bytes = await asyncio.get_running_loop().sock_recv(connection, 16)
        except ConnectionError:
            return b""
        return heard


async def ask(inside: Namespace, port: int) -> bytes:
    """An agent's request from inside; returns the answer's body."""
    sock = inside.make()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    async with Raw(*await asyncio.open_connection(sock=sock)) as agent:
        agent.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await agent.answer())[2]


def inherited_fds() -> list[int]:
    """The file descriptors that a child of this process would inherit, without the standard streams."""
    inherited = []
    for fd in range(3, 1024):
        with contextlib.suppress(OSError):
            if os.get_inheritable(fd):
                inherited.append(fd)
    return inherited


def filenos(listeners: Sequence[socket.socket]) -> list[int]:
    return [sock.fileno() for sock in listeners]


def open_fds() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


# Taken


@on_both_loops
def test_listeners_of_another_namespace_are_served_and_their_loss_is_reported(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        before = set(inherited_fds())
        with Namespace() as inside:
            async with proxy(tmp_path) as ours:
                gate = await ours.gate()
                assert gate.state is GateState.WAITING
                with hand_over(gate.path, filenos([inside.listener(port) for port in PORTS])) as connection:
                    assert await hears(connection) == TAKEN
                    await ours.becomes(GateState.READY)
                    for port in PORTS:
                        assert await ask(inside, port) == b"a"
                    assert set(inherited_fds()) <= before
                await ours.becomes(GateState.LOST)
                assert await ask(inside, PORTS[0]) == b"a"  # its account refuses; whoever froze it says so

    run(scene())


@on_both_loops
def test_a_second_proxy_serves_calls_that_came_while_there_was_none(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        with Namespace() as inside:
            fds = filenos([inside.listener(port) for port in PORTS])
            async with proxy(tmp_path) as first:
                gate = await first.gate()
                with hand_over(gate.path, fds) as connection:
                    await first.becomes(GateState.READY)
                    assert await hears(connection) == TAKEN
                    await gate.release()
                    assert await hears(connection) == b""
                await first.listeners.close()
                waiting = asyncio.ensure_future(ask(inside, PORTS[0]))
                await asyncio.sleep(0.01)
                assert not waiting.done()
                async with proxy(tmp_path) as second:
                    await second.gate()
                    with hand_over(gate.path, fds) as connection:
                        await second.becomes(GateState.READY)
                        assert await waiting == b"a"
                        assert await ask(inside, PORTS[1]) == b"a"
                first.gates.clear()

    run(scene())


@on_both_loops
def test_closing_ends_every_copy_of_the_listeners(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        with Namespace() as inside:
            copies = [inside.listener(port) for port in PORTS]
            async with proxy(tmp_path) as ours:
                gate = await ours.gate()
                with hand_over(gate.path, filenos(copies)) as connection:
                    await ours.becomes(GateState.READY)
                    await gate.close()
                    assert await hears(connection) in (TAKEN, b"")
                for port, copy in zip(PORTS, copies, strict=True):
                    with pytest.raises(ConnectionRefusedError):
                        await ask(inside, port)
                    with pytest.raises(OSError):
                        copy.accept()
                    copy.close()
                assert not gate.path.exists()
                assert ours.states.empty()
                await ours.gate("next")  # the namespace is free again
                with hand_over(tmp_path / "next.sock", filenos([inside.listener(port) for port in PORTS])):
                    await ours.becomes(GateState.READY, "next")

    run(scene())


async def test_the_sockets_mode_lets_a_gate_of_another_user_in(tmp_path: Path) -> None:
    async with proxy(tmp_path) as ours:
        assert stat.S_IMODE((await ours.gate()).path.stat().st_mode) == 0o666


async def test_a_gate_that_hands_over_nothing_may_connect_again(tmp_path: Path) -> None:
    with Namespace() as inside:
        async with proxy(tmp_path) as ours:
            gate = await ours.gate()
            with structlog.testing.capture_logs() as logs:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(gate.path))
                with hand_over(gate.path, filenos([inside.listener(port) for port in PORTS])):
                    await ours.becomes(GateState.READY)
            assert [line["event"] for line in logs] == ["gate.dropped"]


async def test_a_slow_gate_is_dropped_and_may_connect_again(tmp_path: Path) -> None:
    with Namespace() as inside:
        async with proxy(tmp_path) as ours:
            gate = await ours.gate(handover_s_max=0.05)
            with socket.socket(socket.AF_UNIX) as slow:
                slow.connect(str(gate.path))
                slow.setblocking(False)
                assert await hears(slow) == b""
            assert gate.state is GateState.WAITING
            with hand_over(gate.path, filenos([inside.listener(port) for port in PORTS])):
                await ours.becomes(GateState.READY)


async def test_a_gate_that_is_gone_before_the_answer_leaves_nothing_served(tmp_path: Path) -> None:
    """Its listeners come again with its next connection; until then our copies are closed."""
    with Namespace() as inside:
        fds = filenos([inside.listener(port) for port in PORTS])
        async with proxy(tmp_path) as ours:
            gate = await ours.gate()
            before = open_fds()
            with hand_over(gate.path, fds):
                pass
            with hand_over(gate.path, fds) as connection:
                await ours.becomes(GateState.READY)
                assert await hears(connection) == TAKEN
                assert len(open_fds() - before) == 4  # the connection's two ends, and one copy of each listener
            await ours.becomes(GateState.LOST)


async def test_while_one_gate_is_served_no_other_is(tmp_path: Path) -> None:
    with Namespace() as inside, Namespace() as other:
        async with proxy(tmp_path) as ours:
            gate = await ours.gate()
            with hand_over(gate.path, filenos([inside.listener(port) for port in PORTS])):
                await ours.becomes(GateState.READY)
                with hand_over(gate.path, filenos([other.listener(port) for port in PORTS])) as second:
                    assert await ask(inside, PORTS[0]) == b"a"
                    with pytest.raises(BlockingIOError):
                        second.recv(1)
            await ours.becomes(GateState.LOST)
            with pytest.raises(OSError):
                hand_over(gate.path, filenos([inside.listener(9), inside.listener(10)])).close()


# Refused


Make = Callable[[Namespace], list[socket.socket]]


def _bound(inside: Namespace, *, kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = inside.make(kind=kind)
    sock.bind(("127.0.0.1", PORTS[1]))
    return sock


def _unix_listener(inside: Namespace) -> socket.socket:
    sock = inside.make(socket.AF_UNIX)
    sock.bind(b"\0agent-preflight-test-%d" % os.getpid())
    sock.listen()
    return sock


def _ipv6_listener(inside: Namespace) -> socket.socket:
    sock = inside.make(socket.AF_INET6)
    sock.bind(("::1", PORTS[1]))
    sock.listen()
    return sock


def _connected(inside: Namespace) -> socket.socket:
    inside.listener(PORTS[1])
    sock = inside.make()
    sock.connect(("127.0.0.1", PORTS[1]))
    return sock


def _first(inside: Namespace) -> socket.socket:
    return inside.listener(PORTS[0])


WRONG: dict[str, tuple[str, Make]] = {
    "none": ("0 sockets", lambda _inside: []),
    "too few": ("1 sockets", lambda inside: [_first(inside)]),
    "too many": ("3 sockets", lambda inside: [inside.listener(port) for port in (*PORTS, 1)]),
    "far too many": ("sockets where 2", lambda inside: [_first(inside)] * 50),
    "not listening": ("does not listen", lambda inside: [_first(inside), _bound(inside)]),
    "connected": ("does not listen", lambda inside: [_first(inside), _connected(inside)]),
    "udp": ("not TCP", lambda inside: [_first(inside), _bound(inside, kind=socket.SOCK_DGRAM)]),
    "unix": ("not TCP", lambda inside: [_first(inside), _unix_listener(inside)]),
    "ipv6": ("not TCP", lambda inside: [_first(inside), _ipv6_listener(inside)]),
    "another port": ("127.0.0.1:443", lambda inside: [_first(inside), inside.listener(444)]),
    "another order": ("127.0.0.1:8788", lambda inside: [inside.listener(port) for port in reversed(PORTS)]),
    "every address": ("127.0.0.1:443", lambda inside: [_first(inside), inside.listener(443, "0.0.0.0")]),
    "another address": ("127.0.0.1:443", lambda inside: [_first(inside), inside.listener(443, "127.0.0.2")]),
    "shared port": ("SO_REUSEPORT", lambda inside: [_first(inside), inside.listener(443, reuse_port=True)]),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_hand_over_of_other_listeners_is_refused_for_good(name: str, tmp_path: Path) -> None:
    why, make = WRONG[name]
    with Namespace() as inside:
        async with proxy(tmp_path) as ours:
            gate = await ours.gate()
            handed = filenos(make(inside))
            await refused(ours, gate, handed, why)
            assert ours.states.empty()


async def refused(ours: Proxy, gate: SharedGate, fds: Sequence[int], why: str) -> None:
    """Hand over, be refused for that reason; every received descriptor is closed, and the socket accepts nothing more."""
    before = open_fds()
    with structlog.testing.capture_logs() as logs:
        with hand_over(gate.path, fds) as connection:
            assert await hears(connection) == b""
        await ours.becomes(GateState.REFUSED, gate.account)
    assert len(open_fds()) == len(before) - 1  # the gate's socket itself is closed too
    assert [(line["event"], why in line["why"]) for line in logs] == [("gate.refused", True)]
    with pytest.raises(ConnectionRefusedError):
        hand_over(gate.path, fds).close()


async def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    with Namespace() as inside:
        async with proxy(tmp_path) as ours:
            fd = os.open(tmp_path, os.O_RDONLY)
            await refused(ours, await ours.gate(), [_first(inside).fileno(), fd], "no socket")
            os.close(fd)


async def test_our_own_namespace_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        async with proxy(tmp_path) as ours:
            gate = await ours.gate(ports=[own.getsockname()[1]])
            await refused(ours, gate, [own.fileno()], "own network namespace")


async def test_another_trials_namespace_is_refused(tmp_path: Path) -> None:
    with Namespace() as inside:
        async with proxy(tmp_path) as ours:
            first = await ours.gate("a", ports=PORTS[:1])
            with hand_over(first.path, [_first(inside).fileno()]):
                await ours.becomes(GateState.READY)
                second = await ours.gate("b", ports=PORTS[1:])
                await refused(ours, second, [inside.listener(PORTS[1]).fileno()], "another trial's")
                assert await ask(inside, PORTS[0]) == b"a"
            await ours.becomes(GateState.LOST)


async def test_two_namespaces_in_one_hand_over_are_refused(tmp_path: Path) -> None:
    with Namespace() as inside, Namespace() as other:
        async with proxy(tmp_path) as ours:
            fds = filenos([inside.listener(PORTS[0]), other.listener(PORTS[1])])
            await refused(ours, await ours.gate(), fds, "more than one")


def test_a_namespace_that_changed_is_refused() -> None:
    namespaces = Namespaces()
    namespaces.claim("a", [1111, 1111])
    namespaces.claim("a", [1111])
    with pytest.raises(HandoverRefusedError, match="changed"):
        namespaces.claim("a", [2222])
    for cookies in ([None], [None, None], [1111, None]):
        with pytest.raises(HandoverRefusedError):
            namespaces.claim("c", cookies)
    namespaces.release("a")
    namespaces.claim("b", [1111])


async def test_a_socket_that_cannot_be_made_is_an_error_that_says_where(tmp_path: Path) -> None:
    before = open_fds()
    ours = Proxy(tmp_path / "nowhere")
    with pytest.raises(OperatingError, match="nowhere"):
        await ours.gate()
    ours = Proxy(tmp_path / ("long" * 40))
    with pytest.raises(OperatingError):
        await ours.gate()
    assert open_fds() == before
