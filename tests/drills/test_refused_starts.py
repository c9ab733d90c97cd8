"""A ledger that cannot be written, or is in use by another proxy: the start fails with one clear line."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills.stage import stage
from tests.torture.proxy import ROOT

pytestmark = pytest.mark.wire

DAC_OVERRIDE, DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def refused(data: Path, ready: Path, before: Callable[[], None] | None = None) -> str:
    """Start a proxy that must not start; return its message."""
    settings = {
        "data": str(data),
        "listen": "127.0.0.1:0",
        "upstream": "http://127.0.0.1:9/api/v1",
        "ready_file": str(ready),
        "quarantine_file": str(ready.with_name("quarantine.jsonl")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "preflight_proxy"],
        input=json.dumps(settings).encode(),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        preexec_fn=before,
        check=False,
    )
    assert done.returncode == 1
    assert not ready.exists()
    said = done.stderr.decode()
    assert "Traceback" not in said
    return said


def obey_permissions() -> None:
    """Make file modes apply to root too."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None)
        assert libc.prctl(PR_CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0) == 0
        assert libc.prctl(PR_CAPBSET_DROP, DAC_READ_SEARCH, 0, 0, 0) == 0


async def test_a_second_proxy_on_the_same_ledger_is_refused_and_the_first_serves_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.proxy.start()
        account = await play.open("a", "1.00")
        said = refused(tmp_path, tmp_path / "second.json")
        assert "in use by another proxy" in said
        assert (await play.call(account))[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="drops a capability")
async def test_a_ledger_that_may_only_be_read_serves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "run"
    data.mkdir()
    async with stage(data) as play:
        await play.proxy.start()
        await play.open("a", "1.00")
        assert await play.proxy.stop() == 0
    ledger = data / "ledger.sqlite3"
    ledger.chmod(0o444)
    said = refused(data, tmp_path / "ready.json", obey_permissions)
    assert "ledger.sqlite3" in said
    ledger.chmod(0o600)
    data.chmod(0o555)
    try:
        said = refused(data, tmp_path / "ready.json", obey_permissions)
        assert "ledger.sqlite3" in said
    finally:
        data.chmod(0o755)


async def test_a_folder_whose_ledger_was_deleted_between_two_starts_serves_nothing_and_keeps_its_cost_log(
    tmp_path: Path,
) -> None:
    """The message names both solutions."""
    data = tmp_path / "run"
    data.mkdir()
    async with stage(data) as play:
        await play.proxy.start()
        account = await play.open("a", "1.00")
        assert (await play.call(account))[0] == 200
        assert await play.proxy.stop() == 0
    lines = (data / "costs.jsonl").read_text()
    assert lines
    (data / "ledger.sqlite3").unlink()
    said = refused(data, tmp_path / "ready.json")
    assert "put the ledger back from a copy" in said
    assert "to begin with whole budgets, move this folder away or name another one" in said
    assert (data / "costs.jsonl").read_text() == lines
