"""A ledger that is deleted, moved or replaced under a running proxy closes it, as a failed commit does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.ledger.store import LEDGER_LOOK_S
from tests.support.ledger_on_disk import call, open_account, open_store, reserve
from tests.support.proxy_world import World


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def log_deleted(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def index_deleted(path: Path) -> None:
    path.with_name(path.name + "-shm").unlink()


WAYS = [deleted, moved, replaced, folder_moved, log_deleted, index_deleted]


@pytest.mark.parametrize("way", WAYS)
async def test_a_ledger_that_leaves_its_place_is_closed(tmp_path: Path, way: Callable[[Path], None]) -> None:
    """Looking takes no descriptor of the file, and what runs finds the ledger closed, not wrong."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = open_store(folder)
    open_account(store)
    call(store, "r1", 5)
    store.commit(reserve("r2", 5))
    told: list[str] = []
    store.on_poisoned = told.append
    watching = asyncio.ensure_future(store.watch(every_s=0.01))
    await asyncio.sleep(0.1)
    assert not store.poisoned
    way(folder / "ledger.sqlite3")
    async with asyncio.timeout(30):
        await watching
    assert store.poisoned
    assert told == ["the ledger is gone from its place: it was deleted, moved or replaced"]
    for command in (reserve("r3"), Post("r2", 1)):
        with pytest.raises(LedgerError, match="until the proxy is started again"):
            store.commit(command)
    store.close()


async def test_what_a_proxy_does_with_its_own_files_closes_nothing(tmp_path: Path) -> None:
    """Checkpoints empty the log and fill it again; costs.jsonl may go, the ledger has its lines."""
    store = open_store(tmp_path)
    open_account(store)
    watching = asyncio.ensure_future(store.watch(every_s=0.001))
    for number in range(100):
        call(store, f"r{number}", 1)
        await asyncio.sleep(0.02)  # longer in all than until the next checkpoint
    (tmp_path / "costs.jsonl").unlink()
    await asyncio.sleep(0.05)
    assert not store.poisoned
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    store.close()


def test_a_ledger_that_went_in_the_last_second_is_told_of_at_the_end(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    told: list[str] = []
    store.on_poisoned = told.append
    (tmp_path / "ledger.sqlite3").unlink()
    store.close()
    assert len(told) == 1


async def test_after_a_failed_commit_nobody_looks_any_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.poison("a commit failed")
    await store.watch(every_s=60.0)
    store.close()


@pytest.mark.wire
async def test_a_call_after_the_ledger_was_deleted_is_refused_and_the_followers_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is not sent, so it costs nothing; the one before it was posted."""
    async with world.post() as response:
        assert response.status == 200
    await world.settled()
    sent = len(world.sim.requests)
    (world.data / "ledger.sqlite3").unlink()
    async with asyncio.timeout(30):
        while not world.proxy.ledger.store.poisoned:
            await asyncio.sleep(0.05)
    async with world.post() as response:
        assert response.status == 402
        assert "The ledger of this run cannot be written" in await response.text()
    assert len(world.sim.requests) == sent
    async with asyncio.timeout(30):
        async for event in world.proxy.ledger.events.follow(0, 1.0):
            if event is not None and event.type == "ledger":
                assert "gone from its place" in str(event.closed)
                return


def test_it_looks_each_second() -> None:
    assert LEDGER_LOOK_S == 1.0
