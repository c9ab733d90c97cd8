"""Files that are replaced as a whole: a reader, and a start after a crash, finds the old content or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from preflight_proxy.core.errors import ConfigError


def replace_file(path: Path, content: bytes, *, mode: int = 0o600, synced: bool = False) -> None:
    """Replace a file by a new one of this content and mode. One process at a time may do so.

    Args:
        path: The file. A link is replaced, not followed.
        content: All of it.
        mode: Whatever the process's umask is; readable by its owner alone by default.
        synced: The content is on the disk before the name leads to it, so a loss of power leaves the old file or the new one.

    Raises:
        OSError: It cannot be written; the old file stands, and nothing else is left.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            if synced:
                file.flush()
                os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_ready_file(path: Path, ready: Mapping[str, object]) -> None:
    """Write the ready file, readable by its owner alone; `pid` is added.

    Raises:
        ConfigError: It cannot be written.
    """
    write_private(path, json.dumps({**ready, "pid": os.getpid()}))


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, also across a loss of power.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        replace_file(path, text.encode(), synced=True)
    except OSError as exc:
        raise ConfigError(f"The file {path} cannot be written: {exc}") from exc
