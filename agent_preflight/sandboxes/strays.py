"""Agents that ran as processes and outlived the runner that started them: found by their budget file, and ended.

A process is one of them if its environment names exactly that trial's budget file. Only `/proc` tells, so elsewhere none is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.process import members

GONE_S_MAX = 2.0
"""A killed process is gone in milliseconds, unless it hangs in the kernel."""
LOOK_EVERY_S = 0.02

_PROC = Path("/proc")


def orphans(budget_file: Path) -> dict[int, int]:
    """Return the processes of the agent that was told this budget file, and what descends from them.

    Returns:
        Process id to start time, which together name a process for ever.
    """
    mark = b"PREFLIGHT_BUDGET_FILE=" + os.fsencode(budget_file)
    found: dict[int, int] = {}
    for path in _PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found |= members(int(path.parent.name))
    return found


async def end_orphans(budget_file: Path) -> tuple[int, Step]:
    """Kill an agent that outlived its runner; returns how many processes it had, and `"ok"` once none is seen."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + GONE_S_MAX
    seen: set[tuple[int, int]] = set()
    while alive := orphans(budget_file):
        if loop.time() > until_s:
            return len(seen), "failed"
        seen |= set(alive.items())
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(LOOK_EVERY_S)
    return len(seen), "ok" if _PROC.is_dir() else "unverified"
