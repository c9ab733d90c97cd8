"""How another process finds a live run's proxy: `control.json` in the run's folder, there as long as the run is.

A run that crashed leaves the file, and so what must be removed of it is known: its directory of sockets, and the proxy that may
still listen in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object

CONTROL_FILE = "control.json"


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


def read_control(run_dir: Path) -> RunControl | None:
    """Return what a run's control.json says; None if there is none, or it is no such file."""
    match read_json_object(run_dir, CONTROL_FILE):
        case {"socket": str(socket), "directory": str(directory), "pid": int(pid)}:
            return RunControl(Path(socket), Path(directory), pid)
    return None
