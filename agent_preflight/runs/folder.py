"""A run's folder and its short directory for sockets: made so that no two runs share one, private, and gone when due.

    runs/<run_id>/{lock,control.json,plan.json,ledger.sqlite3,costs.jsonl,proxy.log}
    runs/<run_id>/<alias>/{events.jsonl,summary.json,run.log,stderr.log,budget/budget.txt}

A run is alive while somebody holds the lock, whatever process ids say (C15).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent_preflight.artifacts import read_json_object
from agent_preflight.runs.choice import named_run
from agent_preflight.runs.control_file import CONTROL_FILE, RunControl, short_dir_name, tries_dir
from agent_preflight.sidecar import CONTROL_SOCKET
from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.core.errors import ConfigError

COLLISIONS_MAX = 1000
SHORT_BYTES_MAX = 60
"""A socket's path has at most 107 bytes on Linux, 103 on macOS; below the short directory we need about 30 (C3)."""


@dataclass(slots=True)
class RunFolder:
    """A run's folder, locked. A context: the lock is given back and the short directory removed at its end.

    Attributes:
        path: Absolute.
        single: The one trial's folder is the run's folder itself (`run_container`).
        short_dir: Private directory for sockets, outside the run's folder.
        is_wanted: False while checks may still find that there is to be no run.
    """

    path: Path
    single: bool
    short_dir: Path
    _lock: int
    is_wanted: bool = True

    def trial_dir(self, alias: str) -> Path:
        """Return a trial's folder."""
        return self.path if self.single else self.path / alias

    def make_trial_dir(self, alias: str) -> Path:
        """Make a trial's folder and its budget directory, which agents must be able to read (C17)."""
        folder = self.trial_dir(alias)
        folder.mkdir(mode=0o700, exist_ok=True)
        budget = folder / "budget"
        budget.mkdir(mode=0o755, exist_ok=True)
        budget.chmod(0o755)
        return folder

    def gate_socket(self, number: int) -> Path:
        """Make the directory of a gate's own, and return the path of its socket there (C3, C17)."""
        directory = self.short_dir / f"g{number}"
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
        return directory / "gate.sock"

    def write_plan(self, document: Mapping[str, Any]) -> None:
        """Write plan.json, whole or not at all. Trials of an earlier plan stay in it: their keys may be left over.

        Earlier attempts of a trial that begins again lose their arguments, so that the file does not grow with each.
        """
        earlier = (read_json_object(self.path, "plan.json") or {}).get("trials", [])
        known = {trial["key_name"] for trial in document["trials"]}
        kept = [t for t in earlier if isinstance(t, dict) and t.get("key_name") not in known]
        again = {trial.get("alias") for trial in document["trials"]}
        kept = [{k: v for k, v in t.items() if k != "command"} if t.get("alias") in again else t for t in kept]
        write_private(self.path / "plan.json", {**document, "trials": [*kept, *document["trials"]]})

    def release(self) -> None:
        """Give the lock back and remove the short directory; a run that crashes leaves it, and where it is (see `run_control`).

        A folder that is not wanted goes too, if nothing was written there.
        """
        shutil.rmtree(self.short_dir, ignore_errors=True)
        (self.path / CONTROL_FILE).unlink(missing_ok=True)
        if not self.is_wanted and [entry.name for entry in self.path.iterdir()] == ["lock"]:
            with contextlib.suppress(OSError):
                (self.path / "lock").unlink()
                self.path.rmdir()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def open_new(runs_dir: Path, run_id: str) -> RunFolder:
    """Make a folder for a run that may take any id: `run_id`, else `run_id-2`, `-3`, ... as `mkdir` decides."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, COLLISIONS_MAX):
        path = runs_dir / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return _locked(path, single=False)
    raise ConfigError(f"{runs_dir} has {COLLISIONS_MAX} runs named {run_id}.")


@contextlib.contextmanager
def open_try(name: str) -> Iterator[RunFolder]:
    """Open a folder for something that is only tried, where every sweep looks; it is gone with the context.

    Raises:
        ConfigError: There can be no such folder.
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
        resuming: How the caller goes on with a run, as its user writes it.

    Raises:
        ConfigError: The run is alive, or has begun a trial of one of these aliases.
    """
    path = runs_dir / run_id
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _locked(path, single=False)
    begun = [alias for alias in aliases if (path / alias).exists()]
    if begun:
        folder.release()
        raise ConfigError(
            f"The run {run_id} has begun {', '.join(begun)} before: go on with it ({resuming}), or "
            "choose another run id or alias."
        )
    return folder


def open_resumed(runs_dir: Path, run_id: str) -> RunFolder:
    """Open the folder of a run that is to go on.

    Raises:
        ConfigError: There is no such run, or it is alive.
    """
    return _locked(named_run(run_id, runs_dir), single=False)


def going_on(path: Path) -> str:
    """Return that a run's folder is in use, and what to do."""
    return (
        f"{path} belongs to a run that is going on. Follow it with `agent-preflight status {path.name}`, or end it with "
        f"`agent-preflight stop {path.name}`."
    )


def open_single(run_dir: Path, alias: str) -> RunFolder:
    """Open the folder of a trial that is a run by itself, below a directory that others may share.

    Raises:
        ConfigError: It is alive, or has finished before.
    """
    path = run_dir / alias
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _locked(path, single=True)
    if (path / "summary.json").exists():
        folder.release()
        raise ConfigError(f"{path} holds a finished trial: choose another directory or alias.")
    return folder


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON to a file of mode 0600, by rename: readers see the old content or the new."""
    replace_file(path, (json.dumps(document, indent=2) + "\n").encode())


def _locked(path: Path, *, single: bool) -> RunFolder:
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
    return RunFolder(path, single, short_dir, lock)
