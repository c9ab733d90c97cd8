"""Who made a container: enough to tell a live process from a dead one whose number was given out again (C15)."""

from __future__ import annotations

import os
from pathlib import Path


def this_process() -> str:
    """Return `BOOT_ID:PID:START_TIME` of this process; parts that the platform does not tell are `-`."""
    return f"{boot_id()}:{os.getpid()}:{_start_time()}"


def boot_id() -> str:
    """Return the id of this machine's boot, `-` where the platform tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"


def _start_time() -> str:
    """Clock ticks since boot at which the process started: field 22 of its stat line, counted after the name's bracket."""
    try:
        return Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"
