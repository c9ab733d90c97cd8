"""Processes that make containers for Podman, which has no daemon, and outlive whoever asked them to.

The command itself makes the container, and on a busy machine that takes seconds: one that is under way while a sweep looks comes
true after it. So a sweep lets those of dead runs end first. A `start` leaves the rest to a process that watches the container
(`conmon`); that one goes on when the command is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from agent_preflight.docker.argv import LABEL
from agent_preflight.docker.engines import RUNTIME
from agent_preflight.docker.failure import DockerError, Failure

CREATE_S_MAX = 30.0
"""A create on a busy machine takes seconds; one that takes half a minute hangs."""
LOOK_EVERY_S = 0.05
WATCHERS = ("conmon", RUNTIME)


async def until_created(is_dead: Callable[[Path], bool], *, limit_s: float = CREATE_S_MAX) -> None:
    """Return when no command is under way that makes something for a dead run.

    Raises:
        DockerError: One does not end.
    """
    try:
        async with asyncio.timeout(limit_s):
            while any(is_dead(run_dir) for run_dir in creating()):
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as exc:
        raise DockerError(
            "a command of a dead run still makes a container; look for `podman create`", Failure.TIMEOUT
        ) from exc


def creating() -> set[Path]:
    """Return the directories of the runs for which a command is making something, by the labels that it was given."""
    label = f"{LABEL}.dir="
    return {Path(word.removeprefix(label)) for words in _commands() for word in words if word.startswith(label)}


def is_watched(container: str) -> bool:
    """Tell whether something makes or watches this container below Podman."""
    return any(PurePath(words[0]).name in WATCHERS and container in words for words in _commands())


def _commands() -> Iterator[list[str]]:
    """The words of every process of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes().decode(errors="replace").split("\0")
