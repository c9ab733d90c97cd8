"""Files into and out of an agent's container: the link to `budget.txt` before its start, the output folder after its end.

The link is of C16 (the budget file), the copy of C11 (one step at a time). The copy is one stream of the engine's. The
event loop reads it, and a thread of its own writes it, so that neither a slow disk nor a large tree delays another trial.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.environment.variables import CONTAINER_BUDGET_FILE
from agent_preflight.sandboxes.kept_output import KeptOutput, OutputPolicy
from agent_preflight.sandboxes.output_folder import LINK, OutputFolder
from preflight_proxy.core.errors import ConfigError

SPOILT = frozenset({Failure.FAILED, Failure.REFUSED, Failure.NOT_DOCKER})
"""After these the engine answers, but cannot read the folder. What the agent did to it may be the reason."""


def link_copies(workspace_path: str) -> dict[str, bytes]:
    """Return the ways to place `budget.txt` in a workspace: a directory of the container to the tar archive to unpack there.

    The engine unpacks only into a directory that exists. The ways go from "the workspace exists" to "nothing of it exists", so
    the first that succeeds is right: it makes only the missing parents, with mode 0777 because the agent's user need not be
    root, and changes no directory that was there.

    Raises:
        ConfigError: The path is not absolute, or has `..` in it.
    """
    path = PurePosixPath(workspace_path)
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"workspace_path must be an absolute path inside the container; it is {workspace_path!r}")
    return {str(base): _link_archive(path.relative_to(base)) for base in (path, *path.parents)}


def _link_archive(below: PurePosixPath) -> bytes:
    missing = [parent for parent in (below, *below.parents) if parent.parts][::-1]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for directory in missing:
            entry = tarfile.TarInfo(str(directory))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        link = tarfile.TarInfo(str(below / "budget.txt"))
        link.type, link.mode, link.linkname = tarfile.SYMTYPE, 0o777, CONTAINER_BUDGET_FILE
        archive.addfile(link)
    return out.getvalue()


class LinkPlace(msgspec.Struct):
    """Where the link was placed in containers that are alike: of one image, with one workspace and no mounts.

    Attributes:
        directory: One of `link_copies`; None before the first was placed.
    """

    directory: str | None = None


async def place_link(engine: Engine, container: str, ways: Mapping[str, bytes], place: LinkPlace) -> bool:
    """Place the link by the first of the ways that the engine takes; False if the place is read-only or the copy fails.

    Args:
        engine: Where the container is.
        container: The container, not yet started.
        ways: What `link_copies` returns.
        place: The way that succeeded in a container like this one is tried first: each way that fails costs the engine a mount.

    Raises:
        DockerError: The engine did not answer.
    """
    known = [] if place.directory is None else [place.directory]
    for directory in (*known, *ways):
        try:
            await engine.put(container, directory, ways[directory])
        except DockerError as exc:
            if exc.failure in (Failure.REFUSED, Failure.FAILED):
                return False
            if exc.failure is not Failure.GONE:
                raise
        else:
            place.directory = directory
            return True
    return False


async def keep(
    engine: Engine, container: str, policy: OutputPolicy, folder: Path, *, last_try: bool = False
) -> KeptOutput:
    """Copy a stopped container's output folder into a trial's folder; nothing is copied if it does not exist.

    Args:
        engine: Where the container is.
        container: The container.
        policy: Which folder, and the limits.
        folder: The trial's.
        last_try: If the engine cannot read the folder, keep what could be read.

    Returns:
        What was kept, with the limits that were reached.

    Raises:
        OSError: It could not be written; nothing of it is left.
        DockerError: The engine did not answer, or cannot read the folder; nothing of it is left.
    """
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(1, thread_name_prefix="output")
    in_thread = partial(loop.run_in_executor, pool)
    try:
        output = await in_thread(OutputFolder, folder, policy)
        try:
            limit = await _copy_in_time(engine, container, policy, output, partial(in_thread, output.take))
            kept = await in_thread(output.finish, limit)
        except DockerError as exc:
            if not last_try or exc.failure not in SPOILT:
                raise
            kept = await in_thread(output.finish, "archive")
        finally:
            await in_thread(output.discard)
        await in_thread(kept.write_record, folder, container)
        return kept
    finally:
        pool.shutdown(wait=False)


Take = Callable[[bytes], Awaitable[bool]]
"""Writes a piece of an archive; returns whether more of it can add anything."""


async def _copy_in_time(
    engine: Engine, container: str, policy: OutputPolicy, output: OutputFolder, take: Take
) -> str | None:
    """Copy the folder, or the one that a link in its place leads to; return the limit that the copy reached.

    Raises:
        DockerError: The engine sent nothing within the time limit, or cannot read the folder.
    """
    over = asyncio.timeout(policy.timeout_s)
    try:
        async with over:
            limit = await _copy(engine, container, policy.path, output, take)
            if output.root == LINK:
                output.again()
                limit = await _copy(engine, container, f"{policy.path.rstrip('/')}/.", output, take)
            return limit
    except TimeoutError as exc:
        if not over.expired():
            raise  # the disk's own
        if output.root is None:
            text = (
                f"reading the output: Docker sent nothing within {policy.timeout_s:g} s; it may be overloaded, or hang."
            )
            raise DockerError(text, Failure.TIMEOUT) from exc
        return "time"


async def _copy(engine: Engine, container: str, path: str, output: OutputFolder, take: Take) -> str | None:
    """Write what the engine sends. A path that does not exist is empty, and so is one that only the engine cannot read."""
    try:
        async with aclosing(engine.archive(container, path)) as pieces:
            async for piece in pieces:
                if not await take(piece):
                    return None
    except tarfile.TarError as exc:
        raise DockerError(f"reading the output: the engine's archive breaks off: {exc}", Failure.NOT_DOCKER) from exc
    except DockerError as exc:
        if output.root is None and exc.failure is Failure.GONE:
            return None
        if output.root is None and exc.failure in SPOILT and await engine.is_readable(container):
            return "archive"
        raise
    raise DockerError("reading the output: the engine's archive breaks off before its end", Failure.NOT_DOCKER)
