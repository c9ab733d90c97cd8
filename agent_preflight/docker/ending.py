"""How containers end: TERM, half a second, KILL, removed, and seen to be gone (C11, C12).

No step trusts the one before: a command that fails, hangs or lies is followed by the next harder one, and only the engine's
own "No such container" counts as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from agent_preflight.docker import argv
from agent_preflight.docker.cli import END_CALL_S_MAX, Docker
from agent_preflight.docker.failure import DockerError, Failure
from agent_preflight.docker.podman_calls import end_below
from agent_preflight.docker.state import look
from agent_preflight.sandbox import Exit, Step

TERM_S = 0.5
"""What an agent gets to put its files in order. Its calls are refused already, so longer would buy nothing."""
REMOVE_TRIES = 3
REMOVE_AGAIN_S = 0.2
REMOVE_CALL_S_MAX = 10.0
"""Removal deletes the container's layer; a large one takes seconds."""
QUIET_S = 1.0
"""An interrupted `create` may still come true: two looks this far apart must both find nothing."""
QUIET_TRIES = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How an ending went; `exit` is None where the engine could not tell."""

    step: Step
    exit: Exit | None = None


async def end_container(docker: Docker, container: str) -> Ended:
    """End and remove one container, running or not, paused or not; `"ok"` only when it is seen to be gone."""
    if await _signal(docker, container, "TERM"):
        with contextlib.suppress(DockerError):
            await docker.run("wait", container, limit_s=TERM_S)
        await _signal(docker, container, "KILL")
    found: Exit | None = None
    with contextlib.suppress(DockerError):
        state = await look(docker, container, limit_s=END_CALL_S_MAX)
        found = state.exit if state is not None and state.ended else None
    return Ended(await remove_container(docker, container), found)


async def _signal(docker: Docker, container: str, name: str) -> bool:
    """Send a signal; False if nothing was there to take it."""
    try:
        done = await docker.run("kill", "-s", name, container, limit_s=END_CALL_S_MAX)
    except DockerError:
        return True
    return done.failure not in (Failure.GONE, Failure.NOT_RUNNING)


async def remove_container(docker: Docker, container: str) -> Step:
    """Remove one container with its anonymous volumes; `"ok"` only when it is seen to be gone."""
    step: Step = "unverified"
    for attempt in range(REMOVE_TRIES):
        if attempt:
            await asyncio.sleep(REMOVE_AGAIN_S * attempt)
        with contextlib.suppress(DockerError):
            await docker.run(*argv.remove([container]), limit_s=REMOVE_CALL_S_MAX)
        try:
            if await look(docker, container, limit_s=END_CALL_S_MAX) is None and await _nothing_below(
                docker, container
            ):
                return "ok"
        except DockerError:
            step = "unverified"
        else:
            step = "failed"
    return step


async def _nothing_below(docker: Docker, container: str) -> bool:
    return not docker.is_podman or await end_below(docker, container)


async def remove_strays(docker: Docker, filters: list[str]) -> Step:
    """Remove what an interrupted `create` may have made, until two looks in a row find nothing."""
    empty = 0
    for _ in range(QUIET_TRIES):
        try:
            found = (await docker.must("listing containers", "ps", "-aq", "--no-trunc", *filters)).split()
            if found:
                await docker.run(*argv.remove(found), limit_s=REMOVE_CALL_S_MAX)
        except DockerError:
            return "unverified"
        empty = 0 if found else empty + 1
        if empty == 2:
            return "ok"
        await asyncio.sleep(QUIET_S)
    return "failed"
