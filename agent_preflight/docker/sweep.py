"""Remove what dead runs left on this engine: agents, gates, forwarders, volumes; never anything of a live run (C15, labels).

The sweep holds a dead run's lock while it removes, so it never removes what a resumed run uses. A directory or
lock that cannot be opened proves nothing: it may belong to another user or, with a shared engine, to another machine. It is
reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agent_preflight.docker.container import Container
from agent_preflight.docker.labels import LABEL, OUTPUT_LABEL, Role
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.runs.folder import RunState, lock_if_dead_soon

_ORDER: tuple[Role, ...] = ("score", "agent", "gate", "forwarder", "volume")


class EngineLeftover(msgspec.Struct, frozen=True):
    """One thing on the engine that a run made.

    Attributes:
        run_dir: Absolute directory of the run.
        run_id: The run's id.
        alias: The trial.
        role: What it is.
        id: The engine's id for it; a volume's name.
        output: What is to be kept of an agent's files, as its label says.
    """

    run_dir: Path
    run_id: str
    alias: str
    role: Role
    id: str
    output: str = ""


class Keeper(Protocol):
    """What copies an agent's output before its container is removed."""

    async def keep(self, engine: Engine, agent: EngineLeftover) -> bool:
        """Copy the output of a stopped container; False if its container must stay."""

    def gone(self, agent: EngineLeftover) -> None:
        """Take note that its container is gone."""


class EngineSweep(msgspec.Struct, frozen=True):
    """What a sweep did, or with `dry_run` would do.

    Attributes:
        removed: Seen to be gone; with `dry_run` what would be removed.
        left: Could not be removed, or not be seen to be gone.
        live: Belongs to runs that are going on.
        unreadable: Belongs to runs whose directory cannot be opened; a person must decide.
    """

    removed: tuple[EngineLeftover, ...] = ()
    left: tuple[EngineLeftover, ...] = ()
    live: tuple[EngineLeftover, ...] = ()
    unreadable: tuple[EngineLeftover, ...] = ()


async def sweep(
    engine: Engine, *, below: Sequence[Path] | None = None, dry_run: bool = False, keeper: Keeper | None = None
) -> EngineSweep:
    """Remove everything of dead runs from this engine.

    Args:
        engine: Where to look.
        below: Only runs whose directory lies in one of these; None for all.
        dry_run: Only say what would be removed.
        keeper: Copies what agents wrote; None to copy nothing.

    Raises:
        DockerError: The engine could not list what there is.
    """
    leftovers = [
        thing
        for thing in await find(engine)
        if below is None or any(thing.run_dir.is_relative_to(folder) for folder in below)
    ]
    done: dict[str, list[EngineLeftover]] = {"removed": [], "left": [], "live": [], "unreadable": []}
    for run_dir, things in groupby(leftovers, key=lambda thing: thing.run_dir):
        async with lock_if_dead_soon(run_dir) as state:
            for thing in things:
                if state is RunState.DEAD:
                    gone = dry_run or await _remove(engine, thing, keeper)
                    done["removed" if gone else "left"].append(thing)
                else:
                    done[state.value].append(thing)
    return EngineSweep(**{name: tuple(things) for name, things in done.items()})


async def find(engine: Engine) -> list[EngineLeftover]:
    """Return all that runs made on this engine, by run and in the order of removal.

    Raises:
        DockerError: The engine did not answer.
    """
    kinds = ("containers", "volumes")
    lists = await asyncio.gather(*(engine.listed(kind, {f"{LABEL}.run": None}) for kind in kinds))
    leftovers = [thing for rows in lists for row in rows if (thing := _read(row)) is not None]
    return sorted(leftovers, key=lambda thing: (str(thing.run_dir), _ORDER.index(thing.role), thing.id))


def _read(row: Mapping[str, Any]) -> EngineLeftover | None:
    """Read one row; None if its labels are not ours after all."""
    labels = row["Labels"]
    run_dir, run_id, alias, role = (labels.get(f"{LABEL}.{name}", "") for name in ("dir", "run", "trial", "role"))
    for known in _ORDER:
        if role == known and run_dir.startswith("/"):
            output = labels.get(OUTPUT_LABEL, "") if role == "agent" else ""
            return EngineLeftover(Path(run_dir), run_id, alias, known, row.get("Id") or row["Name"], output)
    return None


async def _remove(engine: Engine, thing: EngineLeftover, keeper: Keeper | None) -> bool:
    if thing.role == "agent" and keeper is not None:
        return await _remove_agent(engine, thing, keeper)
    if thing.role != "volume":
        what, gate = f"a dead run's {thing.role}", thing.role != "agent"
        return await Container(engine, thing.id, what, thing.id, owns_network=gate).end() == "ok"
    try:
        await engine.remove_volume(thing.id)
    except DockerError as exc:
        return exc.failure is Failure.GONE
    return True


async def _remove_agent(engine: Engine, agent: EngineLeftover, keeper: Keeper) -> bool:
    """Stop an agent, let its output be copied if it ran, and remove its container."""
    container = Container(engine, agent.id, "a dead run's agent", agent.id)
    await container.stop()
    if container.is_over and not await keeper.keep(engine, agent):
        return False
    gone = await container.end() == "ok"
    if gone:
        keeper.gone(agent)
    return gone
