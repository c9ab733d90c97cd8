"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from preflight_proxy.core.errors import ConfigError


def write_ready_file(path: Path, ready: Mapping[str, object]) -> None:
    """Write the ready file, whole or not at all, readable by its owner alone; `pid` is added.

    Raises:
        ConfigError: It cannot be written.
    """
    write_private(path, json.dumps({**ready, "pid": os.getpid()}))


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all, also where the machine loses power meanwhile.

    Raises:
        ConfigError: It cannot be written.
    """
    draft = path.with_name(path.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        raise ConfigError(f"The file {path} cannot be written: {exc}") from exc
