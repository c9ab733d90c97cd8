"""A trial's gate: the container that owns the network namespace in which the agent runs (C1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from agent_preflight.docker import argv
from agent_preflight.docker.argv import Tag
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.podman_calls import host_address
from preflight_proxy.errors import ConfigError


def check_socket(path: Path) -> None:
    """Accept a unix socket that has a directory of its own, because that directory is mounted into the gate.

    Raises:
        ConfigError: Something else lies beside it (another trial's socket, the control socket), or the directory is missing.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"the gate's socket directory {path.parent} does not exist")
    beside = sorted(entry.name for entry in path.parent.iterdir() if entry.name != path.name)
    if beside:
        raise ConfigError(f"the gate's socket {path} needs a directory of its own; {beside[0]} lies beside it")


async def create_gate(
    docker: Docker,
    tag: Tag,
    network: str,
    socket_path: Path | None,
    image: str,
    extra: Sequence[str],
    ports: Sequence[int],
    services: Iterable[str] = (),
) -> str:
    """Create a gate, not yet started, and return its container id.

    Raises:
        DockerError: The engine refused; the network may not exist.
    """
    host = await host_address(docker, network) if docker.is_podman and network != argv.SEALED else None
    kind = docker.engine.kind
    args = argv.gate_create(tag, network, socket_path, image, extra, ports, services, kind, host)
    return only_id(await docker.must("creating the trial's gate", *args))


async def start_gate(docker: Docker, gate_id: str) -> None:
    """Start a gate; from now on its network namespace exists, and the proxy gets its listeners.

    Raises:
        DockerError: It did not start.
    """
    await docker.must("starting the trial's gate", "start", gate_id)


def only_id(printed: str) -> str:
    """Return the id that `docker create` printed: its last line, warnings may stand above it.

    Raises:
        DockerError: There is none.
    """
    container_id = printed.splitlines()[-1].strip() if printed else ""
    if not container_id:
        raise DockerError("docker create printed no container id")
    return container_id
