"""Where a stand-alone proxy is found from its data folder: its control socket, and the process behind it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from preflight_proxy.core.errors import ConfigError

CONTROL_SOCKET = "control.sock"
"""The control socket's name. In a data folder it is the socket, or a link to it where this path is too long for a socket."""
SOCKET_PATH_BYTES_MAX = 100
"""The system's limit for a unix socket's path is 107 bytes."""
_MACOS_SOL_LOCAL, _MACOS_LOCAL_PEERPID = 0, 2
"""Source: sys/un.h of macOS."""


def make_folders(data: Path) -> None:
    """Make the data folder, for its owner alone if it is new, and in it the one of budget files, readable beside it (C17).

    Raises:
        ConfigError: They cannot be made, or nothing can be written there.
    """
    budget = data / "budget"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        budget.mkdir(exist_ok=True)
        budget.chmod(0o755)
    except OSError as exc:
        why = "a file has that name" if data.is_file() else exc.strerror
        what = "written to" if data.is_dir() else "made"
        raise ConfigError(f"The data folder {data} cannot be {what}: {why}. Name another one with --data.") from exc
    if not os.access(data, os.W_OK | os.X_OK):
        raise ConfigError(f"The data folder {data} cannot be written to. Name another one with --data.")


def control_socket(data: Path) -> Path:
    """Return where the control socket of a folder's proxy is, whether or not one runs."""
    path = data.absolute() / CONTROL_SOCKET
    return Path(path.readlink()) if path.is_symlink() else path


@contextmanager
def new_control_socket(data: Path) -> Iterator[Path]:
    """Yield where to make the control socket: with the data, or in a folder of its own where that path is too long (C3).

    That folder goes with the context, and so does the link to it.
    """
    path = data / CONTROL_SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    import tempfile  # with what it loads it takes 10 ms, and few paths are too long

    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        elsewhere = Path(directory) / CONTROL_SOCKET
        try:
            yield elsewhere
        finally:
            with suppress(OSError):
                if path.readlink() == elsewhere:
                    path.unlink()


def link_control_socket(data: Path, control: Path) -> None:
    """Leave a link to a control socket that is elsewhere; only who has the folder's ledger may do this.

    Raises:
        ConfigError: It cannot be made.
    """
    path = data / CONTROL_SOCKET
    if control == path:
        return
    try:
        draft = path.with_name(CONTROL_SOCKET + ".new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(control)
        draft.replace(path)
    except OSError as exc:
        raise ConfigError(f"The link {path} cannot be made: {exc.strerror}.") from exc


def serving_pid(data: Path) -> int | None:
    """Return the process that serves a data folder; None if none does.

    Raises:
        ConfigError: It cannot be told, because the folder's path is too long.
    """
    path = control_socket(data)
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        if not path.exists():
            return None
        raise ConfigError(f"The path {path} is too long for a socket. Name the folder by a shorter path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return 0  # its queue is full: somebody listens, and cannot be asked who
        except OSError:
            return None
        return _peer_pid(probe)


def _peer_pid(connection: socket.socket) -> int:
    if sys.platform == "darwin":
        return int(connection.getsockopt(_MACOS_SOL_LOCAL, _MACOS_LOCAL_PEERPID))
    pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
