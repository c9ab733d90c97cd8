"""Quarantined endpoints are cleared on the list and in running proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_preflight.operate.quarantine import ClearResult, clear, quarantined
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from tests.drills.stage import stage

ROW = QuarantinedEndpoint("m/x", "tag", "billed more", 1.0)


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
