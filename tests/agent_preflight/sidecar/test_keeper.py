"""The runner starts the proxy, starts it again when it dies, and gives it its accounts back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from agent_preflight.provision import create_sub_key
from agent_preflight.runs.folder import RunFolder, open_new
from agent_preflight.sidecar.control_client import ControlClient
from agent_preflight.sidecar.keeper import Sidecar, SidecarError, own_process, until_ready
from openrouter_sim import Simulator
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import AccountSpec, LedgerEvent
from preflight_proxy.base.data_folder import CONTROL_SOCKET
from preflight_proxy.core.secret import Secret

pytestmark = pytest.mark.wire

TOKEN = "pf-" + "t" * 43


@dataclass
class KeptProxy:
    """A sidecar with one open account, and what it reported."""

    sidecar: Sidecar
    folder: RunFolder
    events: list[LedgerEvent] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    async def call(self) -> int:
        """Make one call with the account's token."""
        body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(headers=headers, timeout=60.0, trust_env=False) as client:
            return (await client.post(f"{self.sidecar.base_url}/chat/completions", json=body)).status_code


@asynccontextmanager
async def sidecar_with_account(simulator: Simulator, tmp_path: Path) -> AsyncIterator[KeptProxy]:
    """Start a proxy with an account `a`."""
    key = await asyncio.to_thread(create_sub_key, simulator.admin_key, "k", Decimal("1.01"), "2099-01-01T00:00:00Z")
    with open_new(tmp_path / "runs", "r") as folder:
        kept = KeptProxy(None, folder)  # type: ignore[arg-type]  # filled in the next line
        config = Config(data=str(folder.path), upstream=simulator.base_url, run="r", listen="127.0.0.1:0")
        kept.sidecar = Sidecar(config, folder.short_dir, kept.events.append, kept.dead.append, kept.lines.append)
        try:
            await kept.sidecar.start()
            spec = AccountSpec(run="r", limit_pusd=10**12, token=Secret(TOKEN), key=key.key, key_is_own=True)
            await kept.sidecar.open("a", spec)
            yield kept
        finally:
            await kept.sidecar.stop()


async def test_a_call_through_the_proxy_is_reported_and_counted(simulator: Simulator, tmp_path: Path) -> None:
    async with sidecar_with_account(simulator, tmp_path) as kept:
        assert await kept.call() == 200
        balance = await kept.sidecar.balance("a")
        assert (balance.calls, balance.pending_pusd) == (1, 0)
        assert balance.posted_pusd > 0
        async with asyncio.timeout(60):
            while "settled" not in [event.type for event in kept.events]:
                await asyncio.sleep(0.01)


async def test_a_frozen_account_admits_no_call_and_a_closed_one_is_unknown(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with sidecar_with_account(simulator, tmp_path) as kept:
        assert (await kept.sidecar.freeze("a", "enough")).frozen == "enough"
        assert await kept.call() == 402
        await kept.sidecar.close("a")
        assert await kept.call() == 401


async def test_a_killed_proxy_is_started_again_at_its_address_with_its_accounts(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with sidecar_with_account(simulator, tmp_path) as kept:
        base_url = kept.sidecar.base_url
        assert await kept.call() == 200
        async with ControlClient(kept.folder.short_dir / CONTROL_SOCKET) as client:
            os.kill((await client.health()).pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not any("starting it again" in line for line in kept.lines):
                await asyncio.sleep(0.01)
        balance = await kept.sidecar.balance("a")  # waits until the new one answers
        assert (balance.calls, kept.sidecar.base_url) == (1, base_url)
        async with asyncio.timeout(60):
            while await kept.call() != 200:
                await asyncio.sleep(0.05)
        assert kept.dead == []


async def test_a_proxy_that_cannot_start_says_why(simulator: Simulator, tmp_path: Path) -> None:
    with open_new(tmp_path / "runs", "r") as folder:
        config = Config(data=str(folder.path), upstream="ftp://nowhere", run="r")
        sidecar = Sidecar(config, folder.short_dir, lambda event: None, lambda reason: None, lambda line: None)
        with pytest.raises(SidecarError, match="upstream"):
            await sidecar.start()
        await sidecar.stop()


async def test_a_process_that_ends_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = await own_process("preflight_proxy", config=b"not json", stderr=log)
    with pytest.raises(SidecarError, match="did not start"):
        await until_ready(process, tmp_path / "ready.json")
    assert b"settings" in (tmp_path / "log").read_bytes()


async def test_our_processes_have_their_own_session_and_none_of_our_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-secret")
    monkeypatch.setenv("OR_ADMIN_KEY", "sk-or-admin")
    ready_file = tmp_path / "ready.json"
    process = await own_process("openrouter_sim", "--listen", "127.0.0.1:0", "--ready-file", str(ready_file))
    try:
        ready = await until_ready(process, ready_file)
        assert ready["base_url"].startswith("http://127.0.0.1:")
        assert os.getsid(process.pid) == process.pid
        environ = Path(f"/proc/{process.pid}/environ")
        if environ.exists():
            assert b"sk-or-" not in environ.read_bytes()
    finally:
        process.terminate()
        await process.wait()
