"""Copies the output folder out of a stopped container, as one stream of the engine's (C11).

The stream is read on the loop and written in a thread of its own, so that neither a slow disk nor a large tree holds up another
trial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.engine.streams import archive, is_readable
from agent_preflight.sandboxes.kept_output import KeptOutput, OutputPolicy
from agent_preflight.sandboxes.output_folder import OutputFolder
from agent_preflight.sandboxes.tar_stream import EntryKind, TarError

SPOILT = frozenset({Failure.FAILED, Failure.REFUSED, Failure.NOT_DOCKER})
"""After these the engine answers, but cannot read the folder: what an agent made of it may be the reason."""


async def keep(
    engine: Engine, container: str, wish: OutputPolicy, folder: Path, *, last_try: bool = False
) -> KeptOutput:
    """Copy a stopped container's output folder into a trial's folder; nothing is copied if it does not exist.

    Args:
        engine: Where the container is.
        container: The container.
        wish: Which folder, and the limits.
        folder: The trial's.
        last_try: Where the engine cannot read the folder, keep what could be read.

    Returns:
        What was kept. A limit that was reached stands in it.

    Raises:
        OSError: It could not be written; nothing of it is left.
        DockerError: The engine did not answer, or cannot read the folder; nothing of it is left.
    """
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(1, thread_name_prefix="output")
    try:
        output = await loop.run_in_executor(pool, OutputFolder, folder, wish)
        try:
            limit = await _within(
                wish.timeout_s,
                output,
                _copy(engine, container, wish.path, output, lambda data: loop.run_in_executor(pool, output.take, data)),
            )
            kept = await loop.run_in_executor(pool, output.finish, limit)
        except DockerError as exc:
            if not last_try or exc.failure not in SPOILT:
                raise
            kept = await loop.run_in_executor(pool, output.finish, "archive")
        finally:
            await loop.run_in_executor(pool, output.discard)
        await loop.run_in_executor(pool, kept.write_record, folder, container)
        return kept
    finally:
        pool.shutdown(wait=False)


async def _within(limit_s: float, output: OutputFolder, copying: Awaitable[str | None]) -> str | None:
    """Give the copy its time; returns the limit that it reached.

    Raises:
        DockerError: The engine sent nothing in that time.
    """
    over = asyncio.timeout(limit_s)
    try:
        async with over:
            return await copying
    except TimeoutError as exc:
        if not over.expired():
            raise  # a disk's own
        if output.root is None:
            text = f"reading the output: Docker sent nothing within {limit_s:g} s; it may be overloaded, or hang."
            raise DockerError(text, Failure.TIMEOUT) from exc
        return "time"


async def _copy(
    engine: Engine, container: str, path: str, output: OutputFolder, take: Callable[[bytes], Awaitable[bool]]
) -> str | None:
    """Copy the folder; if a link stands in its place, the folder to which that leads within the container."""
    limit = await _pour(engine, container, path, output, take)
    if output.root is not EntryKind.LINK:
        return limit
    output.again()
    return await _pour(engine, container, f"{path.rstrip('/')}/.", output, take)


async def _pour(
    engine: Engine, container: str, path: str, output: OutputFolder, take: Callable[[bytes], Awaitable[bool]]
) -> str | None:
    """Write what the engine sends. A path that does not exist holds nothing, nor one that alone the engine cannot read."""
    try:
        async with aclosing(archive(engine, container, path)) as pieces:
            async for piece in pieces:
                if not await take(piece):
                    return None
    except TarError as exc:
        raise DockerError(f"reading the output: the engine's archive breaks off: {exc}", Failure.NOT_DOCKER) from exc
    except DockerError as exc:
        if output.root is None and exc.failure is Failure.GONE:
            return None
        if output.root is None and exc.failure in SPOILT and await is_readable(engine, container):
            return "archive"
        raise
    raise DockerError("reading the output: the engine's archive breaks off before its end", Failure.NOT_DOCKER)
