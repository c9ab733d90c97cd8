"""Whether a run is alive: whether a process holds the lock in its folder. C15 (what a sweep removes): process ids prove nothing."""

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
    """There is no directory or no lock, or we may not open it: it may belong to another user or machine."""


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
    descriptors: list[int] = []
    try:
        yield _lock(run_dir, descriptors)
    finally:
        for fd in reversed(descriptors):
            os.close(fd)


@contextlib.asynccontextmanager
async def lock_if_dead_soon(run_dir: Path) -> AsyncIterator[RunState]:
    """As `lock_if_dead`, but try several times before a run counts as live.

    A released lock stays held for some milliseconds if a process was forked meanwhile, until that executes its program.
    """
    for _ in range(LIVE_LOOKS):
        with lock_if_dead(run_dir) as state:
            if state is not RunState.LIVE:
                yield state
                return
        await asyncio.sleep(LIVE_AGAIN_S)
    yield RunState.LIVE


def _lock(run_dir: Path, descriptors: list[int]) -> RunState:
    try:
        descriptors.append(os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        descriptors.append(os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptors[0]))
        fcntl.flock(descriptors[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return RunState.LIVE
    except OSError:
        return RunState.UNREADABLE
    return RunState.DEAD
