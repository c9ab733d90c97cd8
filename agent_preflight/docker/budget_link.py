"""The link to `budget.txt` in the agent's workspace, placed from outside before anything of the agent runs (C16)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from agent_preflight.docker.container_config import BUDGET_FILE
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from preflight_proxy.core.errors import ConfigError


def link_copies(workspace_path: str) -> dict[str, bytes]:
    """Return the ways to place `budget.txt` in a workspace, from "it exists" up to "nothing of it exists" (C16).

    Each is a directory of the container, and the tar archive to unpack there.

    The engine unpacks only into a directory that exists. So the first that succeeds is the right one: it makes just the parents
    that are missing, with mode 0777 because the agent's user need not be root, and touches no directory that was there.

    Raises:
        ConfigError: The path is not absolute, or not a plain one.
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
        link.type, link.mode, link.linkname = tarfile.SYMTYPE, 0o777, BUDGET_FILE
        archive.addfile(link)
    return out.getvalue()


async def place_link(engine: Engine, container: str, ways: Mapping[str, bytes]) -> bool:
    """Place the link by the first of the ways that the engine takes; False if the place is read-only or the copy fails.

    Raises:
        DockerError: The engine did not answer.
    """
    for directory, archive in ways.items():
        try:
            await engine.put(container, directory, archive)
        except DockerError as exc:
            if exc.failure in (Failure.REFUSED, Failure.FAILED):
                return False
            if exc.failure is not Failure.GONE:
                raise
        else:
            return True
    return False
