"""The floor under the disk: agents that fill it are noticed, not prevented, and ended while there is room for their ends."""

from __future__ import annotations

import shutil
from pathlib import Path

FREE_BYTES_MIN = 128 * 2**20
"""Ledger, summaries and logs of a field of trials need a few MiB at their ends; an agent writes the rest within a second."""


def shortage(folder: Path, free_bytes_min: int) -> str | None:
    """Return why no trial may go on if the disk of a folder is nearly full; None if it is not, or does not tell."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free_bytes >= free_bytes_min:
        return None
    return f"the disk is nearly full: {free_bytes // 2**20} MiB are free at {folder}, {free_bytes_min // 2**20} MiB is the floor"
