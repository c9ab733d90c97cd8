"""A run's folder, its lock, and its short directory for sockets. They are private, and no two runs share one.

    runs/<run_id>/{lock,control.json,plan.json,ledger.sqlite3,costs.jsonl,proxy.log}
    runs/<run_id>/<alias>/{events.jsonl,summary.json,run.log,stderr.log,budget/budget.txt}

A run is live while a process holds the lock. Process ids prove nothing: C15 (what a sweep removes).
`control.json` says where the run's proxy listens. A crashed run leaves the file, so a sweep finds the sockets and the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import open_beneath, read_json_object
from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.base.config import state_dir
from preflight_proxy.base.data_folder import CONTROL_SOCKET
from preflight_proxy.core.errors import ConfigError

LOCK_NAME = "lock"
LOCK_TRIES = 4
"""How often a lock is tried before its run counts as live."""
LOCK_RETRY_S = 0.05
CONTROL_FILE = "control.json"
TRIES_DIR = "tries"
COLLISIONS_MAX = 1000
SHORT_BYTES_MAX = 60
"""C3 (short socket paths): 107 bytes at most on Linux, 103 on macOS. Below this directory about 30 are needed."""
_SHORT_PREFIX = "ap-"
_NONCE_CHARS = 8


@dataclass(slots=True)
class RunFolder(AbstractContextManager["RunFolder", None]):
    """A run's folder, locked. At the end of the context the lock is released and the short directory removed.

    Attributes:
        path: Absolute.
        single: The one trial's folder is the run's folder itself (`run_container`).
        short_dir: Private directory for sockets, outside the run's folder.
        is_wanted: False while the checks run. If they fail, the folder is removed at the end, unless something was written there.
        is_parent_new: The folder above it was made for it, and is removed with it if it is empty.
    """

    path: Path
    single: bool
    short_dir: Path
    _lock: int
    is_wanted: bool = True
    is_parent_new: bool = False

    def trial_dir(self, alias: str) -> Path:
        """Return a trial's folder."""
        return self.path if self.single else self.path / alias

    def make_trial_dir(self, alias: str) -> Path:
        """Make a trial's folder and its budget directory, which agents must be able to read: C17 (modes of files)."""
        folder = self.trial_dir(alias)
        folder.mkdir(mode=0o700, exist_ok=True)
        budget = folder / "budget"
        budget.mkdir(mode=0o755, exist_ok=True)
        budget.chmod(0o755)
        return folder

    def gate_socket(self, number: int) -> Path:
        """Make a gate's own directory and return the path of its socket there."""
        directory = self.short_dir / f"g{number}"
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
        return directory / "gate.sock"

    def write_plan(self, document: Mapping[str, Any]) -> None:
        """Write plan.json, by rename. Trials of the file before stay in it, because their keys may be left over.

        Earlier attempts of a trial that begins again lose their arguments, so that the file does not grow with each.
        """
        trials = (read_json_object(self.path, "plan.json") or {}).get("trials", [])
        key_names = {trial["key_name"] for trial in document["trials"]}
        kept = [t for t in trials if isinstance(t, dict) and t.get("key_name") not in key_names]
        again = {trial.get("alias") for trial in document["trials"]}
        kept = [{k: v for k, v in t.items() if k != "command"} if t.get("alias") in again else t for t in kept]
        write_private(self.path / "plan.json", {**document, "trials": [*kept, *document["trials"]]})

    def release(self) -> None:
        """Release the lock and remove the short directory.

        A folder that is not wanted is removed too, if nothing was written there, and so is the folder above if it was made for it.
        """
        shutil.rmtree(self.short_dir, ignore_errors=True)
        (self.path / CONTROL_FILE).unlink(missing_ok=True)
        if not self.is_wanted and [entry.name for entry in self.path.iterdir()] == ["lock"]:
            with contextlib.suppress(OSError):
                (self.path / "lock").unlink()
                self.path.rmdir()
                if self.is_parent_new:
                    self.path.parent.rmdir()
        os.close(self._lock)

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def open_new(runs_dir: Path, run_id: str) -> RunFolder:
    """Make the folder of a new run: `run_id`, else `run_id-2`, `-3`, ...: the first that does not exist."""
    is_parent_new = not runs_dir.exists()
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, COLLISIONS_MAX):
        path = runs_dir / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            path.mkdir(mode=0o700, parents=True)  # another run whose checks failed may remove the empty `runs_dir`
        except FileExistsError:
            continue
        return _locked(path, single=False, is_parent_new=is_parent_new)
    raise ConfigError(f"{runs_dir} has {COLLISIONS_MAX} runs named {run_id}.")


@contextlib.contextmanager
def open_try(name: str) -> Iterator[RunFolder]:
    """Open a folder for the trial run of a check. It is removed at the end of the context; every sweep searches there.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        folder = open_new(tries_dir(), name)
    except OSError as exc:
        raise ConfigError(
            f"{tries_dir()} cannot be written ({exc.strerror}): set XDG_STATE_HOME to a folder that can."
        ) from exc
    try:
        with folder:
            yield folder
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def open_named(runs_dir: Path, run_id: str, aliases: Sequence[str], resuming: str = "resume=True") -> RunFolder:
    """Open the folder of a run whose id was given: new, or used before for other aliases.

    Args:
        runs_dir: Where runs are kept.
        run_id: The run's.
        aliases: The trials that are to begin.
        resuming: How this caller resumes a run, for the error's text.

    Raises:
        ConfigError: The run is live, or has begun a trial of one of these aliases.
    """
    path, is_parent_new = runs_dir / run_id, not runs_dir.exists()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _locked(path, single=False, is_parent_new=is_parent_new)
    begun = [alias for alias in aliases if (path / alias).exists()]
    if begun:
        folder.release()
        raise ConfigError(
            f"The run {run_id} has begun {', '.join(begun)} before: go on with it ({resuming}), or "
            "choose another run id or alias."
        )
    return folder


def open_resumed(run_dir: Path) -> RunFolder:
    """Open the folder of a run that is to be resumed.

    Raises:
        ConfigError: It is live.
    """
    return _locked(run_dir, single=False)


def going_on(path: Path) -> str:
    """Return the error's text for a run that is live."""
    return (
        f"{path} belongs to a run that is going on. Follow it with `agent-preflight status {path.name}`, or end it with "
        f"`agent-preflight stop {path.name}`."
    )


def open_single(run_dir: Path, alias: str) -> RunFolder:
    """Open the folder of a trial that is a run by itself. Other runs may share the directory above it.

    Raises:
        ConfigError: It is live, or has finished before.
    """
    path, is_parent_new = run_dir / alias, not run_dir.exists()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _locked(path, single=True, is_parent_new=is_parent_new)
    if (path / "summary.json").exists():
        folder.release()
        raise ConfigError(f"{path} holds a finished trial: choose another directory or alias.")
    return folder


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON to a file of mode 0600, by rename: readers see the old content or the new."""
    replace_file(path, (json.dumps(document, indent=2) + "\n").encode())


def _locked(path: Path, *, single: bool, is_parent_new: bool = False) -> RunFolder:
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(going_on(path)) from None
    path, usual = path.resolve(), tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) <= SHORT_BYTES_MAX else "/tmp"  # noqa: S108 - what is made there is private
    short_dir = Path(parent, short_dir_name(path, secrets.token_hex(4)))
    control = RunControl(short_dir / CONTROL_SOCKET, short_dir, os.getpid())
    write_private(
        path / CONTROL_FILE, control.document()
    )  # first, so that a crash leaves no directory that nothing names
    short_dir.mkdir(mode=0o700)
    return RunFolder(path, single, short_dir, lock, is_parent_new=is_parent_new)


class RunState(Enum):
    """Whether a run is live, by its lock."""

    DEAD = "dead"
    LIVE = "live"
    UNREADABLE = "unreadable"
    """There is no folder or no lock, or we may not open it, because another user or machine owns it."""


def is_live(run_dir: Path) -> bool:
    """Return whether a process holds the run's lock. Two processes that ask at the same time do not disturb each other."""
    try:
        with open_beneath(run_dir, LOCK_NAME) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def lock_if_dead(run_dir: Path) -> Iterator[RunState]:
    """Yield a run's state, and hold the lock of a dead run during the context, so that it cannot be resumed meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            fcntl.flock(stack.enter_context(open_beneath(run_dir, LOCK_NAME)), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = RunState.LIVE
        except OSError:
            state = RunState.UNREADABLE
        else:
            state = RunState.DEAD
        yield state


@contextlib.asynccontextmanager
async def lock_if_dead_soon(run_dir: Path) -> AsyncIterator[RunState]:
    """As `lock_if_dead`, but try several times before a run counts as live.

    A released lock stays held for some milliseconds if a process was forked meanwhile, until that executes its program.
    """
    for _ in range(LOCK_TRIES):
        with lock_if_dead(run_dir) as state:
            if state is not RunState.LIVE:
                yield state
                return
        await asyncio.sleep(LOCK_RETRY_S)
    yield RunState.LIVE


def tries_dir() -> Path:
    """Return the folder of the trial runs that checks make (a handshake, a call to a model). Every sweep searches it."""
    return state_dir().absolute() / TRIES_DIR


class RunControl(msgspec.Struct, frozen=True):
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


def shortage(folder: Path, free_bytes_min: int) -> str | None:
    """Return why no trial may go on if the disk of a folder is nearly full; None if it is not, or if it cannot be read."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free_bytes >= free_bytes_min:
        return None
    return f"the disk is nearly full: {free_bytes // 2**20} MiB are free at {folder}, {free_bytes_min // 2**20} MiB is the floor"
