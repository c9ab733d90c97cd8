"""A portable gate's forwarder, as a process of this machine: what it takes, what it says, and how long calls wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from preflight_proxy.core.gate_proof import CLAIM_BYTES, NONCE_CHARS, claim_holds, portal_proof, read_claim

pytestmark = pytest.mark.wire

FORWARD = Path(__file__).parents[3] / "docker" / "gate" / "forward.py"
PASS = "p" * 43
NONCE = "0" * NONCE_CHARS
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ScriptedProxy:
    """The proxy's part: notes for which port each connection comes, and echoes the rest; or it is somebody else."""

    def __init__(self, known_pass: str = PASS) -> None:
        self.ports: list[int] = []
        self.heard = b""
        self.watched = asyncio.Event()
        self.asked = asyncio.Event()
        self.beaten = asyncio.Event()
        self.open = 0
        self.knows = True
        self._known_pass = known_pass
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self.watched.clear()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(NONCE.encode())
            line = await reader.readexactly(CLAIM_BYTES)
            self.heard += line
            claim = read_claim(line)
            assert claim is not None
            assert claim_holds(claim, PASS, NONCE)
            self.asked.set()
            if self.knows:
                self.ports.append(claim.port)
                writer.write(portal_proof(claim, self._known_pass, NONCE))
                await (self._watch(reader) if claim.port == 0 else self._echo(reader, writer))
        writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        self.watched.set()
        while beat := await reader.read(1):
            self.heard += beat
            assert beat == b"."
            self.beaten.set()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        finally:
            self.open -= 1


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        yield Path(name) / "gate.sock"


def started(path: Path, portal_port: int, gate_port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", str(FORWARD), str(path), "127.0.0.1", str(portal_port), str(gate_port)]
    return subprocess.Popen(command, env={"PREFLIGHT_PASS": PASS}, stderr=subprocess.PIPE)


@asynccontextmanager
async def forwarding(
    path: Path, portal: ScriptedProxy
) -> AsyncIterator[tuple[int, socket.socket, subprocess.Popen[bytes]]]:
    """A forwarder that has one listener: its port, the gate's connection, the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with started(path, portal.port, port) as process:
            try:
                with socket.socket(socket.AF_UNIX) as gate:
                    gate.setblocking(False)
                    await connected(gate, path)
                    socket.send_fds(gate, [b"G"], [listener.fileno()])
                    assert await asyncio.get_running_loop().sock_recv(gate, 1) == b"K"
                    yield port, gate, process
            finally:
                process.kill()


async def connected(gate: socket.socket, path: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncio.get_running_loop().sock_connect(gate, str(path))
            except OSError:
                await asyncio.sleep(0.02)


async def test_it_watches_and_forwards_each_connection_with_its_port(path: Path) -> None:
    portal = ScriptedProxy()
    await portal.listen()
    async with forwarding(path, portal) as (port, _, _), asyncio.timeout(30):
        await portal.beaten.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = os.urandom(1_000_000)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()
        assert portal.ports == [0, port]
        assert PASS.encode() not in portal.heard
    await portal.vanish()


async def test_a_call_waits_for_a_proxy_that_comes_back_until_it_knows_the_trial(path: Path) -> None:
    portal = ScriptedProxy()
    await portal.listen()
    async with forwarding(path, portal) as (port, _, _), asyncio.timeout(30):
        await portal.watched.wait()
        await portal.vanish()
        portal.knows = False
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        writer.write_eof()
        portal.asked.clear()
        await portal.listen()
        await portal.asked.wait()
        assert portal.ports == [0]
        portal.knows = True
        assert await reader.read() == b"hello"
        await portal.watched.wait()
        writer.close()
    await portal.vanish()


async def test_a_false_proxy_gets_neither_the_pass_nor_a_byte_of_an_agent(path: Path) -> None:
    """A proof that is not the pass's: what it gets is a forwarder's own proofs, again and again."""
    squatter = ScriptedProxy(known_pass="q" * 43)
    await squatter.listen()
    async with forwarding(path, squatter) as (port, _, _), asyncio.timeout(30):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"a secret of the agent")
        while len(squatter.ports) < 3:
            squatter.asked.clear()
            await squatter.asked.wait()
        assert set(squatter.ports) == {0}
        assert len(squatter.heard) % CLAIM_BYTES == 0
        assert PASS.encode() not in squatter.heard
        assert b"secret" not in squatter.heard
        writer.close()
    await squatter.vanish()


async def test_an_agent_that_goes_is_gone_for_the_proxy_too(path: Path) -> None:
    portal = ScriptedProxy()
    await portal.listen()
    async with forwarding(path, portal) as (port, _, _), asyncio.timeout(30):
        await portal.watched.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.transport.abort()
        while portal.open:
            await asyncio.sleep(0.01)
    await portal.vanish()


async def test_a_call_that_finds_no_proxy_is_answered_and_what_is_not_http_is_reset() -> None:
    """The forwarder's own program, given a proxy that stays away."""
    forward = runpy.run_path(str(FORWARD))

    class Away:
        async def connect_in_time(self, gate_port: int) -> socket.socket:
            raise forward["AwayError"]

    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as other:
        carrier = forward["Carrier"](Away(), http.getsockname()[1])
        serving = [asyncio.ensure_future(carrier.serve(listener)) for listener in (http, other)]
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*http.getsockname())
            writer.write(
                b"POST /api/v1/chat/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
            )
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            reader, writer = await asyncio.open_connection(*other.getsockname())
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        for each in serving:
            each.cancel()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}".encode() in head
    error = json.loads(body)["error"]
    assert (error["code"], error["type"]) == (503, "api_error")
    assert "nothing was charged" in error["message"]


async def test_an_agent_has_no_more_connections_at_once_than_the_proxy_would_take() -> None:
    forward = runpy.run_path(str(FORWARD))

    class Stalled:
        async def connect_in_time(self, gate_port: int) -> socket.socket:
            await asyncio.Event().wait()
            raise AssertionError("it waits until it is cancelled")

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, contextlib.ExitStack() as agent:
        carrier = forward["Carrier"](Stalled(), 0)
        serving = asyncio.ensure_future(carrier.serve(listener))
        for _ in range(forward["CONNECTIONS_MAX"]):
            agent.enter_context(socket.create_connection(listener.getsockname()))
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await reader.read() == b""
            writer.close()
        serving.cancel()


async def test_a_connection_that_the_proxy_has_ended_is_ended_though_its_agent_goes_on() -> None:
    forward = runpy.run_path(str(FORWARD))
    agent, forwarders_agent = socket.socketpair()
    proxy, forwarders_proxy = socket.socketpair()
    with agent, forwarders_agent, proxy, forwarders_proxy:
        for each in (agent, forwarders_agent, proxy, forwarders_proxy):
            each.setblocking(False)
        proxy.send(b"the last word")
        proxy.close()
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionResetError, match="one end broke"):
                await forward["exchange"](forwarders_agent, forwarders_proxy, left_s_max=0.05)
            assert await asyncio.get_running_loop().sock_recv(agent, 64) == b"the last word"


async def test_it_ends_with_its_gate(path: Path) -> None:
    portal = ScriptedProxy()
    await portal.listen()
    async with forwarding(path, portal) as (_, gate, process), asyncio.timeout(30):
        await portal.watched.wait()
        gate.close()
        assert await asyncio.to_thread(process.wait, 20) == 0
    await portal.vanish()


async def test_listeners_that_are_not_those_of_the_gate_are_not_taken(path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as gate,
        started(path, 9, 1) as process,
    ):
        gate.setblocking(False)
        await connected(gate, path)
        socket.send_fds(gate, [b"G"], [listener.fileno()])
        _, said = await asyncio.to_thread(process.communicate, None, 20)
        assert process.returncode == 1
        assert b"not what it must be" in said
