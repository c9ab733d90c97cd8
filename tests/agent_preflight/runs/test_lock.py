"""Whether a run is alive is what its lock says."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from agent_preflight.runs.lock import RunState, is_live, lock_if_dead, lock_if_dead_soon


def lock(run_dir: Path) -> int:
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_run_lives_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.LIVE
    os.close(fd)
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.DEAD


def test_whoever_asks_whether_a_run_lives_is_not_taken_for_its_runner(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    assert is_live(tmp_path)
    os.close(fd)
    with (tmp_path / "lock").open() as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert not is_live(tmp_path)
    os.close(lock(tmp_path))
    assert not is_live(tmp_path / "none")


def test_what_has_no_lock_or_no_directory_is_not_known_to_be_dead(tmp_path: Path) -> None:
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.UNREADABLE
    with lock_if_dead(tmp_path / "none") as state:
        assert state is RunState.UNREADABLE
    (tmp_path / "file").touch()
    with lock_if_dead(tmp_path / "file") as state:
        assert state is RunState.UNREADABLE


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/etc/passwd")
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.UNREADABLE


def test_looking_makes_nothing(tmp_path: Path) -> None:
    with lock_if_dead(tmp_path), lock_if_dead(tmp_path / "none"):
        assert list(tmp_path.iterdir()) == []


def test_a_dead_run_cannot_come_alive_while_it_is_held(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.DEAD
        fd = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)


def open_files() -> int:
    """How many files this process has open, where the system tells."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else 0


def test_a_dead_run_is_free_again_afterwards_whatever_happened(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    before = open_files()
    with pytest.raises(ZeroDivisionError), lock_if_dead(tmp_path):
        raise ZeroDivisionError
    os.close(lock(tmp_path))
    assert open_files() == before


async def test_a_lock_that_a_forked_process_holds_for_a_moment_more_is_no_sign_of_life(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    asyncio.get_running_loop().call_later(0.07, os.close, fd)
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.DEAD


async def test_a_run_whose_lock_stays_held_is_live(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.LIVE
    os.close(fd)


async def test_a_dead_run_stays_dead_while_it_is_held_patiently_too(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.DEAD
        with lock_if_dead(tmp_path) as other:
            assert other is RunState.LIVE
