"""What the container tests share: a base image, the gate's image, the proxy's part, and sandboxes that leave nothing behind.

`PREFLIGHT_TEST_BASE` names the base image, which must have `python3`; nothing is pulled.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.images import ensure_image, image_exists
from agent_preflight.docker.sandbox import DockerSandbox
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.options.container_options import read_docker_args
from agent_preflight.sandboxes.interface import AgentSpec, Pipes
from tests.support.docker_program import ENGINE
from tests.support.scripted_engine import ScriptedEngine

BASE = os.environ.get("PREFLIGHT_TEST_BASE", "local/python:base")
REQUIRED = os.environ.get("PREFLIGHT_REQUIRE_DOCKER") == "1"

MakeSpec = Callable[..., AgentSpec]
MakeSandbox = Callable[..., DockerSandbox]


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image, which is present."""
    if not image_exists(BASE):
        reason = f"the base image {BASE} is not present (PREFLIGHT_TEST_BASE names another)"
        (pytest.fail if REQUIRED else pytest.skip)(reason)
    return BASE


@pytest.fixture(scope="session")
def gate_image(base_image: str) -> str:
    """The id of the gate's image, built on the base image."""
    return on_engine(lambda engine: ensure_image(engine, "gate", base_image))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """The real engine."""
    async with Engine.open() as engine:
        yield engine


@dataclass
class ProxyPart:
    """The proxy's part in the hand-over: takes listeners from the gate's socket and answers each request with `name`."""

    path: Path
    name: str
    hand_overs: int = 0
    _open: list[Any] = field(default_factory=list)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> ProxyPart:
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)
        self._socket.listen(1)
        self._socket.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Vanish as a killed process does: copies of the listeners closed here, not shut."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        for each in [*self._open, self._socket]:
            each.close()

    async def ready(self) -> None:
        """Return when a gate has handed its listeners over."""
        async with asyncio.timeout(60):
            await self._ready.wait()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._socket)
            while True:
                try:
                    message, fds, _, _ = socket.recv_fds(connection, 16, 8)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.01)
            assert message == b"G"
            for fd in fds:
                listener = socket.socket(fileno=fd)
                listener.setblocking(False)
                self._open.append(await asyncio.start_server(self._answer, sock=listener))
            self._open.append(connection)
            self.hand_overs += 1
            self._ready.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = self.name.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A short private directory, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        yield Path(name)


@pytest.fixture
def make_spec(tmp_path: Path, short_dir: Path) -> MakeSpec:
    """Specs of agents of one run; each has its own gate socket directory and a budget file."""

    def make(*command: str, alias: str = "agent", **fields: Any) -> AgentSpec:
        budget_dir, gate_dir = tmp_path / alias / "budget", short_dir / alias
        budget_dir.mkdir(parents=True, exist_ok=True)
        (budget_dir / "budget.txt").write_text("0.25 left\n")
        gate_dir.mkdir(exist_ok=True)
        for directory, mode in ((tmp_path, 0o755), (short_dir, 0o711), (gate_dir, 0o711), (budget_dir, 0o755)):
            directory.chmod(mode)
        usual: dict[str, Any] = {
            "run_id": f"test-{short_dir.name[3:]}",
            "alias": alias,
            "run_dir": tmp_path,
            "image": BASE,
            "command": command,
            "env": {},
            "network": "sealed",
            "workspace_path": "/workspace/output",
            "budget_dir": budget_dir,
            "gate_socket": gate_dir / "gate.sock",
        }
        limits = [f"--{name}={fields.pop(name)}" for name in ("memory", "cpus") if name in fields]
        volumes = [f"--volume={mount}" for mount in fields.pop("mounts", ())]
        words = [*limits, *volumes, *fields.pop("docker_args", ())]
        usual["docker_args"] = read_docker_args(words, fields.get("network", "sealed"))
        return AgentSpec(**usual | fields)

    return make


@pytest.fixture
async def make_sandbox(
    make_spec: MakeSpec, gate_image: str, tmp_path: Path, engine: Engine
) -> AsyncIterator[MakeSandbox]:
    """Sandboxes of one run; when the test ends, the engine has nothing of the run any more."""
    made: list[DockerSandbox] = []

    def make(*command: str, **fields: Any) -> DockerSandbox:
        options = {name: fields.pop(name) for name in ("ports",) if name in fields}
        made.append(DockerSandbox(make_spec(*command, **fields), engine, gate_image, **options))
        return made[-1]

    yield make
    await asyncio.gather(*(sandbox.close() for sandbox in made))
    assert containers_of(tmp_path) == []


def containers_of(run_dir: Path) -> list[str]:
    """The names of a run's containers, whatever their state."""
    command = [ENGINE, "ps", "-a", "--filter", f"label=agent-preflight.dir={run_dir}", "--format", "{{.Names}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@dataclass
class Outcome:
    """All that an agent printed."""

    stdout: str
    stderr: str


async def read_all(pipes: Pipes) -> Outcome:
    """Read both streams to their ends."""
    stdout, stderr = await asyncio.gather(pipes.stdout.read(), pipes.stderr.read())
    return Outcome(stdout.decode(), stderr.decode())


@pytest.fixture
async def scripted(short_dir: Path) -> AsyncIterator[ScriptedEngine]:
    """An engine played by a script, and no container in it."""
    async with ScriptedEngine(short_dir / "engine.sock") as engine:
        yield engine


@pytest.fixture
async def client(scripted: ScriptedEngine) -> AsyncIterator[Engine]:
    """A client of the scripted engine."""
    async with Engine.open(scripted.url) as engine:
        scripted.calls.clear()
        yield engine
