"""The link to `budget.txt` in the agent's workspace, placed from outside before anything of the agent runs (C16)."""

from __future__ import annotations

from collections.abc import Sequence

from agent_preflight.docker.argv import LinkCopy
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import Failure


async def place_link(docker: Docker, container: str, ways: Sequence[LinkCopy]) -> bool:
    """Place the link by the first of the ways that the engine takes; False if the place is read-only or the copy fails.

    Raises:
        DockerError: The engine did not answer.
    """
    for way in ways:
        done = await docker.run("cp", "-", f"{container}:{way.directory}", stdin=way.archive)
        if done.failure is not Failure.NOT_A_DIRECTORY:
            return done.failure is None
    return False
