"""A full disk: what runs is still posted, and nothing new is begun."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import OpenAccount, Post, Reserve
from preflight_proxy.ledger.disk_reserve import DISK_RESERVE_BYTES, DiskReserve
from preflight_proxy.ledger.store import Store
from tests.support.fake_clock import FakeClock


def test_the_place_is_really_taken_and_given_back_once(tmp_path: Path) -> None:
    space = DiskReserve(tmp_path / "space")
    assert (tmp_path / "space").stat().st_blocks * 512 >= DISK_RESERVE_BYTES
    assert space.use()
    assert space.is_used
    assert not (tmp_path / "space").exists()
    assert not space.use()


def test_where_no_place_can_be_kept_it_goes_on_without(tmp_path: Path) -> None:
    space = DiskReserve(tmp_path / "absent" / "space")
    assert not space.use()
    assert not space.is_used


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root makes file systems")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(2**16))


@pytest.mark.wire
def test_on_a_full_disk_running_calls_are_posted_and_no_new_one_is_reserved(small_disk: Path) -> None:
    path = small_disk / "ledger.sqlite3"
    store = Store(path, clock=FakeClock())
    store.commit(OpenAccount(account="a", run="r", limit_pusd=10**12, token_hash="h"))
    for number in range(50):
        store.commit(Reserve(f"r{number}", "a", 10**9, "chat", "m", ("t",), 10))
    fill(small_disk / "agents")
    for number in range(50):
        store.commit(Post(f"r{number}", 10**8))
    with pytest.raises(LedgerError, match="disk is full"):
        store.commit(Reserve("new", "a", 10**9, "chat", "m", ("t",), 10))
    (small_disk / "agents").unlink()
    store.close()
    again = Store(path, clock=FakeClock())
    assert again.state.accounts["a"].posted_pusd == 50 * 10**8
    again.commit(Reserve("new", "a", 10**9, "chat", "m", ("t",), 10))
    again.close()
