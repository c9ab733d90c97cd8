"""Which boot of the machine this is: what was not on the disk when the power went is told from it (M21)."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACOS_BOOT_ID = b"kern.bootsessionuuid"


def boot_id() -> str:
    """Return an id that stays until the machine restarts; empty where the system tells none.

    Source: random(4), "boot_id"; Darwin's sysctl kern.bootsessionuuid.
    """
    if sys.platform == "darwin":
        return _sysctl(MACOS_BOOT_ID)
    try:
        return LINUX_BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _sysctl(name: bytes) -> str:
    value = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(value))
    failed = ctypes.CDLL(None).sysctlbyname(name, value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else value.value.decode("ascii", "replace")
