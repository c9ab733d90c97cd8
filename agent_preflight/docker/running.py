"""A container from its start to its end, seen from outside (C11, C13).

The attached client carries the agent's streams and nothing else: it may die while the agent runs, and the agent may die while
it lives. `docker wait` says when to look, `inspect` says what is true, and an engine that does not answer says nothing.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process

from agent_preflight.docker.cli import Docker, end
from agent_preflight.docker.failure import DockerError, Failure, explain
from agent_preflight.docker.podman_calls import own_directory
from agent_preflight.docker.state import look
from agent_preflight.sandbox import Exit
from preflight_proxy.tasks import Tasks

START_S_MAX = 30.0
"""A busy engine takes seconds to start a container; half a minute means that it hangs."""
LOOK_EVERY_S = 0.05
DETACHED_S_MAX = 2.0
"""An attached client may end a moment before the engine says that its container has."""
ENGINE_AWAY_S = 1.0
"""How often to ask an engine that does not answer."""
LAST_WORDS_BYTES_MAX = 4096


async def attach(docker: Docker, container: str) -> Process:
    """Start a created container with our pipes as its streams.

    Raises:
        DockerError: The docker command cannot be executed, or Podman did not answer.
    """
    directory = await own_directory(docker, container) if docker.is_podman else None
    return await docker.spawn("start", "-a", "-i", container, stdin=PIPE, directory=directory)


async def until_started(docker: Docker, container: str, attached: Process, doing: str) -> None:
    """Return when the engine says that the container runs or has run.

    Raises:
        DockerError: It did not start; the text begins with `doing` and has the engine's reason.
    """
    try:
        async with asyncio.timeout(START_S_MAX):
            while not await _has_started(docker, container, attached, doing):
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as exc:
        raise DockerError(f"{doing}: it does not run after {START_S_MAX:.0f} s", Failure.TIMEOUT) from exc


async def _has_started(docker: Docker, container: str, attached: Process, doing: str) -> bool:
    detached = attached.returncode is not None
    state = await look(docker, container)
    if state is None:
        raise DockerError(f"{doing}: its container is gone", Failure.GONE)
    if detached and not state.started:
        raise DockerError(f"{doing}: {state.error or await _last_words(attached)}")
    return state.started


async def _last_words(attached: Process) -> str:
    """What the attached client said when it gave up."""
    assert attached.stderr is not None
    text = (await attached.stderr.read(LAST_WORDS_BYTES_MAX)).decode(errors="replace")
    return explain("docker start", Failure.OTHER, text)


async def until_ended(docker: Docker, container: str, attached: Process) -> Exit | None:
    """Return how a started container ended, with code None if it is gone; None if it runs on without its attached client.

    It waits for as long as the engine does not answer.
    """
    while True:
        detached = attached.returncode is not None
        try:
            state = await look(docker, container)
            if state is None or state.ended:
                return Exit(None) if state is None else state.exit
            if not detached:
                await _until_signal(docker, container, attached)
            elif not await _ends_soon(docker, container):
                return None
        except DockerError:
            await asyncio.sleep(ENGINE_AWAY_S)


async def _until_signal(docker: Docker, container: str, attached: Process) -> None:
    """Return when `docker wait` or the attached client ends, whatever that means."""
    waiter = await docker.spawn("wait", container)
    tasks = Tasks()
    try:
        signals = [tasks.spawn(waiter.communicate(), "docker wait"), tasks.spawn(attached.wait(), "docker start")]
        await asyncio.wait(signals, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await tasks.cancel()
        await end(waiter)


async def _ends_soon(docker: Docker, container: str) -> bool:
    """Tell whether the engine says within a moment that the container has ended.

    Raises:
        DockerError: The engine does not answer.
    """
    try:
        done = await docker.run("wait", container, limit_s=DETACHED_S_MAX)
    except DockerError as exc:
        if exc.failure is Failure.TIMEOUT:
            return False
        raise
    if done.failure not in (None, Failure.GONE):
        raise DockerError(explain("waiting for a container", done.failure, done.stderr), done.failure)
    return True
