"""`control.json` in a live run's folder: where other processes find its proxy.

A crashed run leaves the file. So a sweep finds the directory of sockets and the proxy that may still listen there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from preflight_proxy.base.config import state_dir

CONTROL_FILE = "control.json"
TRIES_DIR = "tries"
_SHORT_PREFIX = "ap-"
_NONCE_CHARS = 8


def tries_dir() -> Path:
    """Return the folder of the trial runs that checks make (a handshake, a call to a model). Every sweep searches it."""
    return state_dir().absolute() / TRIES_DIR


@dataclass(frozen=True, slots=True)
class RunControl:
    """Where a run's sockets are.

    Attributes:
        socket: The control socket of its proxy, which listens once it is up.
        directory: The short directory that holds all its sockets.
        pid: The runner's process id, for a person. It is no evidence that the run is live: numbers are used again.
    """

    socket: Path
    directory: Path
    pid: int

    def document(self) -> dict[str, Any]:
        """Return the content of control.json."""
        return {"socket": str(self.socket), "directory": str(self.directory), "pid": self.pid}


def short_dir_name(run_dir: Path, nonce: str) -> str:
    """Return the name of a run's directory of sockets. It proves which run it belongs to.

    Args:
        run_dir: The run's folder, absolute.
        nonce: Eight random hexadecimal digits.
    """
    digest = hashlib.sha256(nonce.encode() + os.fsencode(run_dir)).hexdigest()
    return f"{_SHORT_PREFIX}{nonce}{digest[:_NONCE_CHARS]}"


def is_short_dir_of(name: str, run_dir: Path) -> bool:
    """Return whether `short_dir_name` made a directory's name for this run."""
    nonce = name.removeprefix(_SHORT_PREFIX)[:_NONCE_CHARS]
    return name == short_dir_name(run_dir, nonce)


def read_control(run_dir: Path) -> RunControl | None:
    """Return a run's control.json; None if there is none, or it is not valid."""
    match read_json_object(run_dir, CONTROL_FILE):
        case {"socket": str(socket), "directory": str(directory), "pid": int(pid)}:
            return RunControl(Path(socket), Path(directory), pid)
    return None
