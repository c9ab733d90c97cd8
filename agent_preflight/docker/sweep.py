"""Remove what dead runs left on this engine: agents, gates, forwarders, networks, volumes; never anything of a live run (C15).

A run is alive while somebody holds the lock in its directory; that a process of that number exists says nothing. The sweep
holds the lock itself while it removes, so a run that is being resumed and its own sweep cannot meet. A directory or lock that
cannot be opened proves nothing either: it may belong to another user or, with a shared engine, to another machine. It is
reported.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path

import msgspec

from agent_preflight.docker.argv import LABEL, Role
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.ending import end_container
from agent_preflight.docker.failure import DockerError, Failure
from agent_preflight.docker.podman_clients import until_created

LOCK_NAME = "lock"
_ORDER: tuple[Role, ...] = ("agent", "gate", "forwarder", "network", "volume")
_LABELS = ("dir", "run", "trial", "role")
_Row = tuple[str, str, str, str, str]
"""An id, and the labels in that order."""
_LISTS = (("ps", "-a", "--no-trunc"), ("network", "ls", "--no-trunc"), ("volume", "ls"))


class RunState(Enum):
    """What the lock of a run's directory says."""

    DEAD = "dead"
    LIVE = "live"
    UNREADABLE = "unreadable"
    """No directory there, no lock in it, or not for us to open."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing on the engine that a run made.

    Attributes:
        run_dir: Absolute directory of the run.
        run_id: The run's id.
        alias: The trial.
        role: What it is.
        id: The engine's id for it; a volume's name.
    """

    run_dir: Path
    run_id: str
    alias: str
    role: Role
    id: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep did, or with `dry_run` would do.

    Attributes:
        removed: Seen to be gone; with `dry_run` what would be removed.
        left: Could not be removed, or not be seen to be gone.
        live: Belongs to runs that are going on.
        unreadable: Belongs to runs whose directory cannot be opened; a person must decide.
    """

    removed: tuple[Found, ...] = ()
    left: tuple[Found, ...] = ()
    live: tuple[Found, ...] = ()
    unreadable: tuple[Found, ...] = ()


async def sweep(*, executable: str = "docker", below: Path | None = None, dry_run: bool = False) -> Sweep:
    """Remove everything of dead runs from this engine.

    Args:
        executable: The docker command.
        below: Only runs whose directory lies in this one; None for all.
        dry_run: Only say what would be removed.

    Raises:
        DockerError: The engine could not be asked what there is.
    """
    docker = Docker(executable)
    if docker.is_podman:
        await until_created(_is_dead)
    found = [thing for thing in await find(docker) if below is None or thing.run_dir.is_relative_to(below)]
    done: dict[str, list[Found]] = {"removed": [], "left": [], "live": [], "unreadable": []}
    for run_dir, things in groupby(found, key=lambda thing: thing.run_dir):
        with hold(run_dir) as state:
            for thing in things:
                if state is RunState.DEAD:
                    gone = dry_run or await _remove(docker, thing)
                    done["removed" if gone else "left"].append(thing)
                else:
                    done[state.value].append(thing)
    return Sweep(**{name: tuple(things) for name, things in done.items()})


async def find(docker: Docker) -> list[Found]:
    """Return all that any run made on this engine, by run and in the order in which it must be removed.

    Raises:
        DockerError: The engine did not answer.
    """
    found: list[Found] = []
    for command in _LISTS:
        rows = await (_podman_rows if docker.is_podman else _rows)(docker, command)
        found += [thing for row in rows if (thing := _read(row)) is not None]
    return sorted(found, key=lambda thing: (str(thing.run_dir), _ORDER.index(thing.role), thing.id))


async def _rows(docker: Docker, command: Sequence[str]) -> list[_Row]:
    name = "{{json .Name}}" if command[0] == "volume" else "{{json .ID}}"
    row = ",".join([name, *(f'{{{{json (.Label "{LABEL}.{label}")}}}}' for label in _LABELS)])
    text = await docker.must("listing", *command, "--filter", f"label={LABEL}.run", "--format", f"[{row}]")
    return [msgspec.json.decode(line, type=_Row) for line in text.splitlines()]


async def _podman_rows(docker: Docker, command: Sequence[str]) -> list[_Row]:
    """The same of Podman, whose templates know no labels; how it spells its keys differs from list to list."""
    text = await docker.must("listing", *command, "--filter", f"label={LABEL}.run", "--format", "json")
    key = "name" if command[0] == "volume" else "id"
    things = [{name.lower(): value for name, value in thing.items()} for thing in msgspec.json.decode(text)]
    rows = [(thing[key], *(thing["labels"].get(f"{LABEL}.{label}", "") for label in _LABELS)) for thing in things]
    return msgspec.convert(rows, list[_Row])


def _read(row: _Row) -> Found | None:
    """Read one row; None if its labels are not ours after all."""
    identity, run_dir, run_id, alias, role = row
    for known in _ORDER:
        if role == known and run_dir.startswith("/"):
            return Found(Path(run_dir), run_id, alias, known, identity)
    return None


async def _remove(docker: Docker, thing: Found) -> bool:
    if thing.role in ("agent", "gate", "forwarder"):
        return (await end_container(docker, thing.id)).step == "ok"
    with contextlib.suppress(DockerError):
        done = await docker.run(thing.role, "rm", thing.id)
        return done.failure in (None, Failure.GONE)
    return False


def _is_dead(run_dir: Path) -> bool:
    with hold(run_dir) as state:
        return state is RunState.DEAD


@contextlib.contextmanager
def hold(run_dir: Path) -> Iterator[RunState]:
    """Tell a run's state, and keep a dead one dead for the duration: nobody can resume it meanwhile."""
    opened: list[int] = []
    try:
        yield _lock(run_dir, opened)
    finally:
        for fd in reversed(opened):
            os.close(fd)


def _lock(run_dir: Path, opened: list[int]) -> RunState:
    try:
        opened.append(os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[0]))
        fcntl.flock(opened[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return RunState.LIVE
    except OSError:
        return RunState.UNREADABLE
    return RunState.DEAD


def describe(things: Sequence[Found]) -> list[str]:
    """Return one line for each thing, for a person."""
    return [f"{thing.role} {thing.id[:12]} of {thing.run_id}/{thing.alias} ({thing.run_dir})" for thing in things]
