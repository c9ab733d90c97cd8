"""A portable gate's forwarder, as a process of this machine: what it takes, what it says, and how long calls wait."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.wire

FORWARD = Path(__file__).parents[3] / "docker" / "gate" / "forward.py"
PASS = "p" * 43
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Portal:
    """The proxy's part: tells what each connection said first, and echoes the rest."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.watched = asyncio.Event()
        self.asked = asyncio.Event()
        self.beaten = asyncio.Event()
        self.knows = True
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
        line = await reader.readline()
        self.lines.append(line)
        try:
            if not self.knows:
                self.asked.set()
                assert line.endswith(b" 00000\n")
                writer.close()
                return
            if line.endswith(b" 00000\n"):
                writer.write(b"K")
                self.watched.set()
                assert await reader.readexactly(1) == b"."
                self.beaten.set()
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        yield Path(name) / "gate.sock"


def started(path: Path, portal_port: int, gate_port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", str(FORWARD), str(path), "127.0.0.1", str(portal_port), str(gate_port)]
    return subprocess.Popen(command, env={"PREFLIGHT_PASS": PASS}, stderr=subprocess.PIPE)


@asynccontextmanager
async def forwarding(path: Path, portal: Portal) -> AsyncIterator[tuple[int, socket.socket, subprocess.Popen[bytes]]]:
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


async def test_it_watches_and_carries_each_connection_with_its_port(path: Path) -> None:
    portal = Portal()
    await portal.listen()
    async with forwarding(path, portal) as (port, _, _), asyncio.timeout(30):
        await portal.beaten.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = os.urandom(1_000_000)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()
        assert portal.lines == [f"AP1 {PASS} 00000\n".encode(), f"AP1 {PASS} {port:05d}\n".encode()]
    await portal.vanish()


async def test_a_call_waits_for_a_proxy_that_comes_back_until_it_knows_the_trial(path: Path) -> None:
    portal = Portal()
    await portal.listen()
    async with forwarding(path, portal) as (port, _, _), asyncio.timeout(30):
        await portal.watched.wait()
        await portal.vanish()
        portal.knows = False
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        writer.write_eof()
        await portal.listen()
        await portal.asked.wait()
        portal.knows = True
        assert await reader.read() == b"hello"
        await portal.watched.wait()
        writer.close()
    await portal.vanish()


async def test_it_ends_with_its_gate(path: Path) -> None:
    portal = Portal()
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
