"""Whether a run is alive: somebody holds the lock in its directory; that a process of some number exists says nothing (C15)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path

from agent_preflight.artifacts import open_beneath

LOCK_NAME = "lock"
LIVE_LOOKS = 4
"""How often a lock is tried before its run counts as live."""
LIVE_AGAIN_S = 0.05


class RunState(Enum):
    """What the lock of a run's directory says."""

    DEAD = "dead"
    LIVE = "live"
    UNREADABLE = "unreadable"
    """No directory there, no lock in it, or not for us to open: it may belong to another user or to another machine."""


def is_live(run_dir: Path) -> bool:
    """Tell whether some process holds the run. Two that ask at the same time do not take each other for it."""
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
    """Tell a run's state, and keep a dead one dead for the duration: nobody can resume it meanwhile."""
    opened: list[int] = []
    try:
        yield _lock(run_dir, opened)
    finally:
        for fd in reversed(opened):
            os.close(fd)


@contextlib.asynccontextmanager
async def lock_if_dead_soon(run_dir: Path) -> AsyncIterator[RunState]:
    """As `lock_if_dead`, but look again before a run counts as live.

    A lock that was given back is held for some milliseconds more if a process was forked meanwhile: until it executes its
    program, it has a copy.
    """
    for _ in range(LIVE_LOOKS):
        with lock_if_dead(run_dir) as state:
            if state is not RunState.LIVE:
                yield state
                return
        await asyncio.sleep(LIVE_AGAIN_S)
    yield RunState.LIVE


def _lock(run_dir: Path, opened: list[int]) -> RunState:
    try:
        opened.append(os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[0]))
        fcntl.flock(opened[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return RunState.LIVE
    except OSError:
        return RunState.UNREADABLE
    return RunState.DEAD
