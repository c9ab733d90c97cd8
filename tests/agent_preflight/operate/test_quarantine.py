"""Quarantined endpoints are cleared on the list and in running proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_preflight.operate.quarantine import ClearResult, carried, clear, quarantined
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import origin, user_counts_file, user_quarantine_file
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.shared_counts import SharedCounts
from tests.drills.stage import stage

ROW = QuarantinedEndpoint("m/x", "tag", "billed more", 1.0)


def see_factor(run: Path, upstream: str = OPENROUTER) -> None:
    """A run sees that an endpoint counts more tokens than estimated."""
    counts = SharedCounts(user_counts_file(), run=str(run), upstream=upstream, clock=SystemClock())
    counts.begin()
    counts.note_factor("m/x", "tag", 1300)
    counts.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's list is in this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return user_quarantine_file()


def add(path: Path, *rows: QuarantinedEndpoint) -> None:
    for row in rows:
        QuarantineFile(path).add(row)


def test_the_list_is_sorted(path: Path) -> None:
    assert quarantined() == []
    other = QuarantinedEndpoint("a/x", "tag", "billed more", 2.0)
    add(path, ROW, other)
    assert quarantined() == [other, ROW]


async def test_a_cleared_endpoint_is_not_listed_any_more(path: Path, tmp_path: Path) -> None:
    add(path, ROW)
    assert await clear("m/x", "other", tmp_path) == ClearResult(listed=False, proxies=())
    assert await clear("m/x", "tag", tmp_path) == ClearResult(listed=True, proxies=())
    assert quarantined() == []


async def test_a_list_that_cannot_be_written_is_an_error(path: Path, tmp_path: Path) -> None:
    add(path, ROW)
    (path.parent / ".quarantine.jsonl.new").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        await clear("m/x", "tag", tmp_path)
    assert quarantined() == [ROW]


async def test_what_two_runs_saw_of_an_endpoint_is_listed_and_lifted(path: Path, tmp_path: Path) -> None:
    assert carried() == []
    for run in ("a", "b"):
        see_factor(tmp_path / run)
    assert [(row.upstream, row.model, row.tag, row.factor) for row in carried()] == [(OPENROUTER, "m/x", "tag", 1300)]
    elsewhere = await clear("m/x", "tag", tmp_path, upstream="http://127.0.0.1:9")
    assert (elsewhere.listed, len(carried())) == (False, 1)
    assert await clear("m/x", "tag", tmp_path) == ClearResult(listed=True, proxies=())
    assert carried() == []
    assert await clear("m/x", "tag", tmp_path) == ClearResult(listed=False, proxies=())


async def test_counts_that_cannot_be_written_are_an_error(path: Path, tmp_path: Path) -> None:
    see_factor(tmp_path / "a")
    user_counts_file().write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"token_counts.sqlite3 cannot be written"):
        await clear("m/x", "tag", tmp_path)


@pytest.mark.wire
async def test_a_running_proxy_estimates_as_usual_once_an_endpoint_is_cleared(path: Path, tmp_path: Path) -> None:
    """It lifts what it has in memory, and so what it may have written meanwhile."""
    control, counts_file = str(tmp_path / "c.sock"), str(user_counts_file())
    async with stage(tmp_path, control=control, shared_counts_file=counts_file) as play:
        for run in ("a", "b"):
            see_factor(tmp_path / run, upstream=origin(play.sim.base_url))
        assert len(carried()) == 1
        await play.proxy.start()
        await play.proxy.control("DELETE", "/quarantine?model=m/x&tag=tag")
        await play.proxy.stop()
        assert carried() == []


@pytest.mark.wire
async def test_a_running_proxy_clears_an_endpoint_at_once(path: Path, tmp_path: Path) -> None:
    add(path, ROW)
    async with stage(tmp_path, control=str(tmp_path / "c.sock"), quarantine_file=str(path)) as play:
        here = play.sim.base_url
        add(path, replace(ROW, upstream=origin(here)))
        await play.proxy.start()
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": [["m/x", "tag"]]}
        (tmp_path / "control.sock").symlink_to(tmp_path / "c.sock")
        elsewhere = await clear("m/x", "tag", tmp_path / "runs", data=tmp_path)
        assert elsewhere == ClearResult(listed=True, proxies=())
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": [["m/x", "tag"]]}
        done = await clear("m/x", "tag", tmp_path / "runs", data=tmp_path, upstream=here)
        assert done == ClearResult(listed=True, proxies=(tmp_path,))
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": []}
