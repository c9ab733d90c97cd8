"""What the container tests share: a base image, the gate's image, the proxy's part, and sandboxes that leave nothing behind.

`PREFLIGHT_TEST_BASE` names the base image, which must have `python3`; nothing is pulled.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.images import ensure_gate_image, image_exists
from agent_preflight.sandbox import AgentSpec, Pipes
from tests.engine import ENGINE, NOT_PORTABLE, on_podman

BASE = os.environ.get("PREFLIGHT_TEST_BASE", "local/python:base")
REQUIRED = os.environ.get("PREFLIGHT_REQUIRE_DOCKER") == "1"

MakeSpec = Callable[..., AgentSpec]
MakeSandbox = Callable[..., DockerSandbox]
Scripted = Callable[..., "ScriptedDocker"]


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image, which is present."""
    if not image_exists(BASE):
        reason = f"the base image {BASE} is not present (PREFLIGHT_TEST_BASE names another)"
        (pytest.fail if REQUIRED else pytest.skip)(reason)
    return BASE


@pytest.fixture(scope="session")
def portable_gates() -> None:
    """Gates can be portable on this engine."""
    if on_podman():
        pytest.skip(NOT_PORTABLE)


@pytest.fixture(scope="session")
def gate_image(base_image: str) -> str:
    """The id of the gate's image, built on the base image."""
    return asyncio.run(ensure_gate_image(base=base_image))


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
            "mounts": (),
            "network": "sealed",
            "workspace_path": "/workspace/output",
            "budget_dir": budget_dir,
            "gate_socket": gate_dir / "gate.sock",
        }
        return AgentSpec(**usual | fields)

    return make


@pytest.fixture
async def make_sandbox(make_spec: MakeSpec, gate_image: str, tmp_path: Path) -> AsyncIterator[MakeSandbox]:
    """Sandboxes of one run; when the test ends, the engine has nothing of the run any more."""
    made: list[DockerSandbox] = []

    def make(*command: str, **fields: Any) -> DockerSandbox:
        options = {name: fields.pop(name) for name in ("ports", "executable", "allow_docker_socket") if name in fields}
        made.append(DockerSandbox(make_spec(*command, **fields), gate_image=gate_image, **options))
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


@dataclass(frozen=True)
class ScriptedDocker:
    """An executable that plays the docker command."""

    path: Path
    log: Path

    def calls(self) -> list[str]:
        """The command lines that it was called with."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    """Make a docker command from the branches of a shell `case` over its whole command line.

    What it says that it is, is asked apart from that, and not logged: nothing, which is not Podman, or `version` and `host`.
    """

    def make(branches: str, version: str = "", host: str = "") -> ScriptedDocker:
        docker = ScriptedDocker(tmp_path / "docker", tmp_path / "docker.log")
        log, here = shlex.quote(str(docker.log)), shlex.quote(str(tmp_path))
        docker.path.write_text(
            f'#!/bin/sh\n[ "$*" = --version ] && echo {shlex.quote(version)} && exit\n'
            f'[ "$1" = info ] && [ "$3" = "{{{{json .Host}}}}" ] && echo {shlex.quote(host)} && exit\n'
            f'printf "%s\\n" "$*" >> {log}\ncd {here} || exit 99\ncase "$*" in\n{branches}\n'
            '*) echo "unscripted: $*" >&2; exit 99;;\nesac\n'
        )
        docker.path.chmod(docker.path.stat().st_mode | stat.S_IXUSR)
        return docker

    return make
