"""Names and labels of everything that a run makes on an engine, by which a sweep finds what a crash left.

C15 (labels and owner): they name the run, its folder, the trial, what it is, the process that made it, and when it expires.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import psutil

LABEL = "agent-preflight"
OUTPUT_LABEL = f"{LABEL}.output"
"""What a sweep copies of an agent's files before it removes the container; empty if nothing."""

LIFETIME = timedelta(days=7)
"""After this, nobody needs what a trial made; the same as its sub-key's lifetime."""

Role = Literal["agent", "gate", "forwarder", "volume", "score"]


def this_process() -> str:
    """Return `BOOT_ID:PID:START_TIME` of this process, start time in seconds since the epoch."""
    return f"{boot_id()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def boot_id() -> str:
    """Return the id of this machine's boot; `-` if the platform has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"


@dataclass(frozen=True, slots=True)
class TrialLabels:
    """What marks everything of one trial.

    Attributes:
        run_id: The run's id, in full.
        run_dir: Absolute directory of the run; it tells runs with the same id apart.
        alias: The trial.
        owner: The process that made it, as `this_process` returns it.
        expires: ISO time after which nobody needs it.
        suffix: Random hexadecimal digits, one value per sandbox.
    """

    run_id: str
    run_dir: Path
    alias: str
    owner: str = field(default_factory=this_process)
    expires: str = field(default_factory=lambda: (datetime.now(UTC) + LIFETIME).isoformat(timespec="seconds"))
    suffix: str = field(default_factory=partial(secrets.token_hex, 6))

    def name(self, role: Role) -> str:
        """Return the container's or volume's name: trial and run in full, in the characters that the engine allows."""
        kind = "" if role == "agent" else f"{role}-"
        return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"ap-{self.alias}-{self.run_id}-{kind}{self.suffix}")

    def labels(self, role: Role) -> dict[str, str]:
        """Return the labels of a container or volume."""
        values = {"run": self.run_id, "dir": str(self.run_dir), "trial": self.alias, "role": role}
        values |= {"owner": self.owner, "expires": self.expires}
        return {f"{LABEL}.{key}": value for key, value in values.items()}
