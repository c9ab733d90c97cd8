"""Checks that the paths which trials mount exist on this machine, before a key, folder or container is made."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.docker.mounts import Bind
from preflight_proxy.core.errors import ConfigError

FOLDER_MODE = 0o777
"""Less the umask, as for a folder that the user makes."""
_MISSING = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class MountSource:
    """A path that a trial mounts.

    Attributes:
        bind: The path, its target, and whether the agent may write there.
        is_made: If it is missing, a folder is made; else a missing path is an error.
    """

    bind: Bind
    is_made: bool = False


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The result of the check.

    Attributes:
        problems: What is wrong, in sentences.
        missing: Folders to be made if there are no problems.
    """

    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def check_sources(sources: Iterable[MountSource]) -> SourceReport:
    """Return the problems of the paths that trials mount, each path once. Makes nothing."""
    problems: dict[str, str] = {}
    missing: list[str] = []
    for each in sources:
        path = each.bind.path
        if path in problems or path in missing:
            continue
        reason = _reason(path)
        if reason is None:
            continue
        if not (each.is_made and each.bind.writable and reason.errno == errno.ENOENT and not Path(path).is_symlink()):
            problems[path] = _sentence(each.bind, reason)
        elif _is_writable(above := _nearest(path)):
            missing.append(path)
        else:
            problems[path] = f"The mount's source {path} is missing and cannot be made: {above} cannot be written."
    return SourceReport(tuple(problems.values()), tuple(missing))


def make_folders(missing: Sequence[str], say: Callable[[str], None]) -> None:
    """Make folders that `check_sources` found missing, and say so.

    Raises:
        ConfigError: One cannot be made.
    """
    for path in missing:
        try:
            Path(path).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"The mount's source {path} is missing and cannot be made: {exc.strerror}.") from exc
        say(f"warning: the mount's source {path} was missing: an empty folder was made, which is yours")


def _reason(path: str) -> OSError | None:
    """Return why a path does not exist; None if it does, or if only the engine may read there."""
    try:
        Path(path).stat()
    except PermissionError:
        return None
    except (OSError, ValueError) as exc:
        return exc if isinstance(exc, OSError) else OSError(errno.EINVAL, str(exc))
    return None


def _sentence(bind: Bind, reason: OSError) -> str:
    where = f"the mount's source {bind.path}"
    if reason.errno not in _MISSING:
        return f"{where[0].upper()}{where[1:]} cannot be used: {reason.strerror}."
    if Path(bind.path).is_symlink():
        return f"{where[0].upper()}{where[1:]} is a link to {Path(bind.path).readlink()}, which does not exist."
    empty = f"The agent would find nothing in {bind.target}. " if not bind.writable else ""
    return f"{where[0].upper()}{where[1:]} does not exist. {empty}Correct the path, or make it: mkdir -p {shlex.quote(bind.path)}"


def _nearest(path: str) -> Path:
    return next(above for above in Path(path).parents if above.is_dir())


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
