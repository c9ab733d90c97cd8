"""What is kept of an agent's output folder: the limits, the result, and where it is. No content is read here."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from preflight_proxy.base.atomic_file import replace_file

WORKSPACE = "workspace"
"""In a trial's folder: what the agent wrote, whole."""
RECORD = "output.json"
"""In a trial's folder: of which container its output is a copy, and what of it was copied."""
ASIDE_MAX = 1000


class OutputPolicy(msgspec.Struct, frozen=True):
    """Which folder of a container is kept, and how much of it at most.

    Attributes:
        path: The folder in the container.
        timeout_s: How long the copy may take.
        bytes_max: The sum of the files' sizes, holes included.
        files_max: How many files and folders.
        depth_max: How many names a path below the folder may have.
        mounts: Paths below the folder that are the user's own mounts; they are left out.
        unkept: Why nothing is to be copied; empty if it is.
    """

    path: str = "/workspace/output"
    timeout_s: float = 60.0
    bytes_max: int = 2**30
    files_max: int = 20_000
    depth_max: int = 32
    mounts: tuple[str, ...] = ()
    unkept: str = ""

    def text(self) -> str:
        """Return it as a label holds it; empty if nothing is to be copied."""
        return "" if self.unkept else msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> OutputPolicy | None:
        """Return what a label says; None if nothing is to be copied, or it cannot be read."""
        try:
            return msgspec.json.decode(text, type=cls) if text else None
        except msgspec.MsgspecError:
            return None


OUTPUT_DEPTH_MAX = 256
"""What tools that remove a tree can walk."""
KEEP_OFF = "keep_output is off"
NO_FOLDER, NO_FILES, IS_FILE = "there is no such folder", "it is empty", "it is no folder"
"""Why nothing is kept of an agent that wrote nothing to its output folder."""


class KeptOutput(msgspec.Struct, frozen=True):
    """What was kept.

    Attributes:
        path: The folder on this machine; None if there is none.
        files: Regular files in it; None if they were not counted.
        bytes: Their sizes' sum.
        skipped: What was left out and why, at most `LISTED_MAX`.
        skipped_count: How many entries were left out.
        limits: Which limits were reached: `time`, `bytes`, `files`, `depth`; `archive` if the engine's archive broke off.
        why: Why there is no folder, or where a folder comes from that was not copied.
    """

    path: str | None = None
    files: int | None = 0
    bytes: int | None = 0
    skipped: tuple[dict[str, str], ...] = ()
    skipped_count: int = 0
    limits: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether the agent ran and left nothing in its output folder."""
        return self.path is None and self.why in (NO_FOLDER, NO_FILES, IS_FILE)

    def document(self) -> dict[str, Any]:
        """Return it as summary.json holds it."""
        return asdict(self) | {"skipped": list(self.skipped), "limits": list(self.limits)}

    def write_record(self, folder: Path, container: str) -> None:
        """Write `RECORD`, by which a sweep sees that this container's output is kept; without it, it copies again."""
        record = json.dumps({"container": container, "output": self.document()}, indent=2)
        with contextlib.suppress(OSError):
            replace_file(folder / RECORD, record.encode())

    @classmethod
    def read(cls, output: object) -> KeptOutput | None:
        """Return what a record's `output` says; None if it cannot be read."""
        try:
            return msgspec.convert(output, cls)
        except msgspec.MsgspecError:
            return None

    def warning(self, policy: OutputPolicy) -> str | None:
        """Return a warning if a limit was reached."""
        if not self.limits:
            return None
        texts = {
            "time": f"{policy.timeout_s:g} s (output_timeout_s)",
            "bytes": f"{policy.bytes_max} bytes (output_max_bytes)",
            "files": f"{policy.files_max} files and folders (output_max_files)",
            "depth": f"{policy.depth_max} levels (output_max_depth)",
            "archive": "what the engine could read",
        }
        reached = ", ".join(texts[limit] for limit in self.limits)
        return f"the output in {policy.path} was not copied whole: the limit was {reached}; summary.json names what is missing"


def set_workspace_aside(folder: Path, number: int | None = None) -> None:
    """Give the output of an earlier attempt another name, so that `workspace` is free.

    Args:
        folder: The trial's.
        number: The attempt's number; None for the first that is free.

    Raises:
        OSError: It could not be renamed.
    """
    place = folder / WORKSPACE
    if not os.path.lexists(place):
        return
    names = (f"{WORKSPACE}.{count}" for count in ([number] if number is not None else range(1, ASIDE_MAX)))
    free = next((name for name in names if not os.path.lexists(folder / name)), None)
    if free is None:
        raise FileExistsError(errno.EEXIST, f"{folder} holds {ASIDE_MAX} earlier outputs")
    place.rename(folder / free)
