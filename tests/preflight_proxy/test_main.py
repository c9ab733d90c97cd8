"""The proxy as its runner starts it: settings on standard input, a ready file, an end by SIGTERM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from openrouter_sim import Simulator
from preflight_proxy.core.secret import Secret
from tests.support.proxy_process import Child, standalone
from tests.support.proxy_world import chat

pytestmark = pytest.mark.wire

TOKEN = "pf-0123456789abcdef0123456789abcdef"


def sidecar(folder: Path, upstream: str, **more: Any) -> Child:
    ready_file = folder / "ready.json"
    document = {
        "data": str(folder),
        "listen": "127.0.0.1:0",
        "upstream": upstream,
        "control": str(folder / "c.sock"),
        "ready_file": str(ready_file),
        "run": "run",
        "grace_s": 10.0,
        "durability": "process",
        **more,
    }
    return Child(["-m", "preflight_proxy"], document, ready_file, folder)


async def test_it_serves_an_account_that_its_runner_opens_and_ends_in_order(tmp_path: Path) -> None:
    async with Simulator() as sim, sidecar(tmp_path, sim.base_url) as child:
        assert child.ready == {
            "base_url": child.ready["base_url"],
            "api_key": None,
            "pid": child.process.pid,
            "control": str(tmp_path / "c.sock"),
            "accounts": {},
        }
        key = Secret(sim.inference_key)
        spec = {"run": "run", "limit_usd": "1", "token": TOKEN, "key": key.reveal()}
        connector = aiohttp.UnixConnector(child.ready["control"])
        async with (
            aiohttp.ClientSession(connector=connector) as control,
            control.put("http://control/accounts/a", json=spec) as response,
        ):
            assert response.status == 200
        url, headers = child.ready["base_url"] + "/chat/completions", {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as client, client.post(url, json=chat(), headers=headers) as response:
            assert response.status == 200
        assert await child.stop() == 0
        (line,) = (tmp_path / "costs.jsonl").read_text().splitlines()
        assert json.loads(line)["account"] == "a"
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert sim.inference_key.encode() not in written
        assert TOKEN.encode() not in written
        log = [json.loads(text) for text in child.errors().splitlines()]
        assert (log[0]["event"], log[-1]["event"]) == ("proxy.ready", "proxy.stopping")


@pytest.mark.parametrize("more", [{"upstream": "ftp://x"}, {"listen": "nowhere"}, {"unknown": 1}, {"grace_s": -1}])
async def test_settings_that_cannot_be_followed_end_it_with_one_line(tmp_path: Path, more: dict[str, Any]) -> None:
    child = sidecar(tmp_path, **{"upstream": "http://127.0.0.1:9/api/v1", **more})
    await child.start()
    assert await child.ended() == 1
    assert child.errors().startswith("preflight_proxy: ")
    assert len(child.errors().splitlines()) == 1
    assert not child.ready_file.exists()


async def test_a_second_one_on_the_same_ledger_ends_with_one_line(tmp_path: Path) -> None:
    async with sidecar(tmp_path, "http://127.0.0.1:9/api/v1") as first:
        before = first.ready_file.read_text()
        (tmp_path / "second").mkdir()
        second = sidecar(tmp_path / "second", "http://127.0.0.1:9/api/v1", data=str(tmp_path))
        await second.start()
        assert await second.ended() == 1
        assert second.errors().startswith("preflight_proxy: ")
        assert first.ready_file.read_text() == before
        assert await first.stop() == 0


LISTED = """
import atexit, runpy, sys
loaded = lambda: print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names), file=sys.stderr)
atexit.register(loaded)
runpy.run_module("agent_preflight", run_name="__main__", alter_sys=True)
"""


async def test_a_proxy_that_has_served_a_call_has_loaded_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Nothing of the command line, of drawing, of HTTP libraries in Python or of cryptography. A package more is a slower start."""
    async with Simulator() as sim:
        proxy = standalone(tmp_path, sim.base_url, sim.inference_key)
        proxy.command = ["-c", LISTED, *proxy.command[2:]]
        async with proxy as child, aiohttp.ClientSession() as client:
            headers = {"Authorization": f"Bearer {child.ready['api_key']}"}
            url = child.ready["base_url"] + "/chat/completions"
            async with client.post(url, json=chat(), headers=headers) as response:
                assert response.status == 200
            assert await child.stop() == 0
    loaded = set(child.errors().splitlines()[-1].split())
    packages = {name for name in loaded if not name.startswith("_")} - {"cython_runtime", "sitecustomize"}
    assert packages == {
        "agent_preflight",
        "preflight_proxy",
        "msgspec",
        "structlog",
        "uvloop",
        "httptools",
        "aiohappyeyeballs",
    }
