"""The link to `budget.txt` in the agent's workspace, placed from outside before anything of the agent runs (C16)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agent_preflight.docker.argv import BUDGET_FILE, BUDGET_MOUNT
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import Failure
from agent_preflight.docker.podman import HOSTS, RESOLVER
from agent_preflight.docker.podman_calls import link_may_end_elsewhere
from preflight_proxy.errors import ConfigError

OWN = (BUDGET_MOUNT, HOSTS, RESOLVER)
"""Where our own read-only mounts are."""


@dataclass(frozen=True, slots=True)
class LinkCopy:
    """One way to place the budget link: an archive, and the directory of the container to unpack it in."""

    directory: str
    archive: bytes


def link_copies(workspace_path: str) -> list[LinkCopy]:
    """Return the ways to place `budget.txt` in a workspace, from "it exists" up to "nothing of it exists" (C16).

    The engine unpacks only into a directory that exists. So the first that succeeds is the right one: it makes just the parents
    that are missing, with mode 0777 because the agent's user need not be root, and touches no directory that was there.

    Raises:
        ConfigError: The path is not absolute, or not a plain one.
    """
    path = PurePosixPath(workspace_path)
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"workspace_path must be an absolute path inside the container; it is {workspace_path!r}")
    return [LinkCopy(str(base), _link_archive(path.relative_to(base))) for base in (path, *path.parents)]


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


async def place_link(docker: Docker, container: str, ways: Sequence[LinkCopy]) -> bool:
    """Place the link by the first of the ways that the engine takes; False if the place is read-only or the copy fails.

    Raises:
        DockerError: The engine did not answer.
    """
    if docker.is_podman and await link_may_end_elsewhere(docker, container, ways[0].directory, OWN):
        return False
    for way in ways:
        done = await docker.run("cp", "-", f"{container}:{way.directory}", stdin=way.archive)
        if done.failure is not Failure.NOT_A_DIRECTORY:
            return done.failure is None
    return False
