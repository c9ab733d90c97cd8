"""Quarantined endpoints are cleared on the list and in running proxies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent_preflight.operate.quarantine import ClearResult, clear, quarantined
from preflight_proxy.base.config import origin
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from tests.drills.stage import stage

ROW = QuarantinedEndpoint("m/x", "tag", "billed more", 1.0)


def listing(tmp_path: Path, *rows: QuarantinedEndpoint) -> Path:
    path = tmp_path / "quarantine.jsonl"
    for row in rows:
        QuarantineFile(path).add(row)
    return path


def test_the_list_is_sorted(tmp_path: Path) -> None:
    other = QuarantinedEndpoint("a/x", "tag", "billed more", 2.0)
    assert quarantined(listing(tmp_path, ROW, other)) == [other, ROW]
    assert quarantined(tmp_path / "none") == []


async def test_what_is_cleared_is_off_the_list(tmp_path: Path) -> None:
    path = listing(tmp_path, ROW)
    assert await clear("m/x", "other", tmp_path, path=path) == ClearResult(listed=False, proxies=())
    assert await clear("m/x", "tag", tmp_path, path=path) == ClearResult(listed=True, proxies=())
    assert quarantined(path) == []


async def test_a_list_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    path = listing(tmp_path, ROW)
    (tmp_path / ".quarantine.jsonl.new").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        await clear("m/x", "tag", tmp_path, path=path)
    assert quarantined(path) == [ROW]


@pytest.mark.wire
async def test_a_proxy_that_runs_hears_of_it_at_once(tmp_path: Path) -> None:
    path = listing(tmp_path, ROW)
    async with stage(tmp_path, control=str(tmp_path / "c.sock"), quarantine_file=str(path)) as play:
        here = play.sim.base_url
        listing(tmp_path, replace(ROW, upstream=origin(here)))
        await play.proxy.start()
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": [["m/x", "tag"]]}
        (tmp_path / "control.sock").symlink_to(tmp_path / "c.sock")
        elsewhere = await clear("m/x", "tag", tmp_path / "runs", data=tmp_path, path=path)
        assert elsewhere == ClearResult(listed=True, proxies=())
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": [["m/x", "tag"]]}
        done = await clear("m/x", "tag", tmp_path / "runs", data=tmp_path, path=path, upstream=here)
        assert done == ClearResult(listed=True, proxies=(tmp_path,))
        assert await play.proxy.control("GET", "/quarantine") == {"quarantined": []}
