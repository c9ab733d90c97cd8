"""What is asked of a Podman, and of the runtime below it, where Docker's engine would see to it by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from agent_preflight.docker.cli import END_CALL_S_MAX, Docker
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.podman import Mount, link_may_stray, network_name
from agent_preflight.docker.podman_clients import LOOK_EVERY_S, is_watched

REMOVE_CALL_S_MAX = 10.0
BELOW_TRIES = 8
"""Each takes about a tenth of a second; who watches a container that has ended tidies up in that time, and `rm` is tried again."""


async def host_address(docker: Docker, network: str) -> str | None:
    """Return this machine's IPv4 address in a network; None if it has none there.

    Raises:
        DockerError: There is no such network.
    """
    template = "{{range .Subnets}}{{.Gateway}} {{end}}"
    name = network_name(network)
    printed = await docker.must(f"looking at the network {network}", "network", "inspect", name, "-f", template)
    return next((word for word in printed.split() if "." in word), None)


async def link_may_end_elsewhere(docker: Docker, container: str, workspace: str, own: Sequence[str]) -> bool:
    """Tell of a created container what `link_may_stray` tells of its mounts.

    Raises:
        DockerError: Podman did not answer.
    """
    printed = await docker.must("looking at the mounts", "container", "inspect", "-f", "{{json .Mounts}}", container)
    return link_may_stray(msgspec.json.decode(printed, type=list[Mount]), workspace, own)


async def remove_layer(docker: Docker, name: str) -> None:
    """Remove what a killed `create` may have made on Podman: a layer under the container's name, which no list by labels shows."""
    with contextlib.suppress(DockerError):
        if docker.is_podman:
            await docker.run("rm", "-f", "-v", name, limit_s=REMOVE_CALL_S_MAX)


async def own_directory(docker: Docker, container: str) -> str:
    """Return where Podman keeps a container's papers.

    What watches a container notes that its memory ran out in the directory in which it was started, and Podman looks for the note
    here.

    Raises:
        DockerError: Podman did not answer.
    """
    return await docker.must(
        "looking for a container's directory", "container", "inspect", "-f", "{{.StaticDir}}", container
    )


async def end_below(docker: Docker, container: str) -> bool:
    """Remove what there is of a container below Podman; True when it is seen to be gone.

    A `podman start` that is killed at the wrong moment leaves a container that the runtime has made, or is about to make, and
    that Podman has not heard of: it removes what it knows and says "no such container", and the container's first process waits
    for ever to become the agent's program.

    Raises:
        DockerError: The runtime cannot be executed, or did not end in its time.
    """
    runtime = Docker(docker.engine.runtime)
    for _ in range(BELOW_TRIES):
        watched = is_watched(container)  # asked first: what nobody makes any more is not made after we looked
        await runtime.run("delete", "--force", container, limit_s=END_CALL_S_MAX)
        listed = await runtime.run("list", "-q", limit_s=END_CALL_S_MAX)
        if not watched and listed.returncode == 0 and container not in listed.stdout.split():
            return True
        await asyncio.sleep(LOOK_EVERY_S)
    return False
