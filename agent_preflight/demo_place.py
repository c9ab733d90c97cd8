"""Where the demo's agents run: in containers if this machine can, else as processes; and how we know."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent_preflight.docker.argv import GATE_PORTS, SEALED, Tag
from agent_preflight.docker.cli import Docker, docker_answers
from agent_preflight.docker.ending import remove_container
from agent_preflight.docker.gate import create_gate, start_gate
from agent_preflight.docker.images import DEFAULT_BASE, context_dir, ensure_gate_image, ensure_image, image_exists
from agent_preflight.docker.owner import this_process
from agent_preflight.runner.plan import SandboxKind
from preflight_proxy.errors import ConfigError, OperatingError

Wish = Literal["auto", "docker", "process"]

LOCAL_BASE = "local/python:base"
"""An image of plain Python that machines without a registry build for themselves."""
HANDSHAKE_S_MAX = 5.0
"""A gate hands its listeners over in about 0.3 s where the engine shares a unix socket with this machine."""

IN_CONTAINERS = "Agents run in containers, sealed: no network but the proxy, no key but a trial token."
AS_PROCESSES = (
    "Agents run as processes of this machine: their budgets hold all the same, because they have no key but a trial "
    "token, but they see what you may see."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where agents run.

    Attributes:
        sandbox: In what.
        image: The demo image's id, empty for processes.
        base: What our images are built on, None for processes.
        command: What comes before an agent's arguments.
        sentence: What that means, for a person.
    """

    sandbox: SandboxKind
    image: str
    base: str | None
    command: tuple[str, ...]
    sentence: str


async def choose_place(wish: Wish, base: str | None) -> Place:
    """Return where the demo's agents run. Nothing is ever pulled.

    Args:
        wish: `"auto"` takes containers where they work.
        base: The image to build on; None for the first of `DEFAULT_BASE`, `LOCAL_BASE` that is here.

    Raises:
        OperatingError: Containers were wished for and do not work here.
    """
    if wish == "process":
        return _processes("as you wish")
    try:
        return await _containers(base)
    except OperatingError as exc:
        if wish == "docker":
            raise
        return _processes(str(exc))


def _processes(reason: str) -> Place:
    script = context_dir("demo") / "agent.py"
    return Place("process", "", None, (sys.executable, str(script)), f"{AS_PROCESSES} ({reason})")


async def _containers(base: str | None) -> Place:
    if shutil.which("docker") is None or not await asyncio.to_thread(docker_answers):
        raise ConfigError("no Docker daemon answers")
    found = await asyncio.to_thread(_present, (base,) if base else (DEFAULT_BASE, LOCAL_BASE))
    image = await ensure_image("demo", base=found)
    gate = await ensure_gate_image(base=found)
    await shake_hands(gate)
    return Place("docker", image, found, (), IN_CONTAINERS)


def _present(bases: Sequence[str]) -> str:
    for base in bases:
        if image_exists(base):
            return base
    raise ConfigError(f"no base image is here: get one with `docker pull {bases[0]}`, or name one with --base")


async def shake_hands(gate_image: str) -> None:
    """Return if a gate on this engine can hand its listeners to a process on this machine.

    Raises:
        OperatingError: It cannot, or the engine does not start it.
    """
    directory = Path(tempfile.mkdtemp(prefix="ap-"))
    docker, loop = Docker(), asyncio.get_running_loop()
    tag = Tag("demo-handshake", directory, "handshake", this_process(), "", secrets.token_hex(6))
    gate_id = None
    try:
        (directory / "g").mkdir(mode=0o711)
        path = directory / "g" / "gate.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(1)
            listener.setblocking(False)
            gate_id = await create_gate(docker, tag, SEALED, path, gate_image, (), GATE_PORTS)
            await start_gate(docker, gate_id)
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await loop.sock_recv(connection, 1)
    except TimeoutError as exc:
        raise OperatingError("this Docker engine does not share a unix socket with this machine") from exc
    finally:
        if gate_id is not None:
            with contextlib.suppress(OperatingError):
                await remove_container(docker, gate_id)
        shutil.rmtree(directory, ignore_errors=True)
