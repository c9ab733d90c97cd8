"""How another process finds a live run's proxy: `control.json` in the run's folder, there as long as the run is.

A run that crashed leaves the file, and so what must be removed of it is known: its directory of sockets, and the proxy that may
still listen in it.
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
    """Return the folder of runs that only try something (a handshake, the path to a model), into which every sweep looks."""
    return state_dir().absolute() / TRIES_DIR


@dataclass(frozen=True, slots=True)
class RunControl:
    """Where a run's sockets are.

    Attributes:
        socket: The control socket of its proxy; nobody listens before the proxy is up.
        directory: The short directory that holds all its sockets.
        pid: The runner's process id, for a person: that a process of that number exists proves nothing.
    """

    socket: Path
    directory: Path
    pid: int

    def document(self) -> dict[str, Any]:
        """Return what control.json holds."""
        return {"socket": str(self.socket), "directory": str(self.directory), "pid": self.pid}


def short_dir_name(run_dir: Path, nonce: str) -> str:
    """Return the name of a run's directory of sockets, which shows whose it is: no file can name another's and be believed.

    Args:
        run_dir: The run's folder, absolute.
        nonce: Eight random hexadecimal digits.
    """
    digest = hashlib.sha256(nonce.encode() + os.fsencode(run_dir)).hexdigest()
    return f"{_SHORT_PREFIX}{nonce}{digest[:_NONCE_CHARS]}"


def is_short_dir_of(name: str, run_dir: Path) -> bool:
    """Tell whether a directory's name is one that `short_dir_name` made for this run."""
    nonce = name.removeprefix(_SHORT_PREFIX)[:_NONCE_CHARS]
    return name == short_dir_name(run_dir, nonce)


def read_control(run_dir: Path) -> RunControl | None:
    """Return what a run's control.json says; None if there is none, or it is no such file."""
    match read_json_object(run_dir, CONTROL_FILE):
        case {"socket": str(socket), "directory": str(directory), "pid": int(pid)}:
            return RunControl(Path(socket), Path(directory), pid)
    return None
