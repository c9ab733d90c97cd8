"""The proxy as the runner keeps it."""

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
from agent_preflight.sidecar import Sidecar, SidecarError, SidecarSettings
from openrouter_sim import Simulator
from preflight_proxy.base.control_messages import AccountSpec, LedgerEvent
from preflight_proxy.core.secret import Secret

pytestmark = pytest.mark.wire

TOKEN = "pf-" + "t" * 43


@dataclass
class Kept:
    """A sidecar with one open account, and what it told."""

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
async def kept(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Kept]:
    """Start a proxy with an account `a`."""
    key = await asyncio.to_thread(create_sub_key, simulator.admin_key, "k", Decimal("1.01"), "2099-01-01T00:00:00Z")
    with open_new(tmp_path / "runs", "r") as folder:
        told = Kept(None, folder)  # type: ignore[arg-type]  # filled in the next line
        settings = SidecarSettings(folder.path, simulator.base_url, "r", folder.short_dir, "127.0.0.1:0")
        told.sidecar = Sidecar(settings, told.events.append, told.dead.append, told.lines.append)
        try:
            await told.sidecar.start()
            spec = AccountSpec(run="r", limit_pusd=10**12, token=Secret(TOKEN), key=key.key, key_is_own=True)
            await told.sidecar.open("a", spec)
            yield told
        finally:
            await told.sidecar.stop()


async def test_a_call_through_the_proxy_is_heard_of_and_counted(simulator: Simulator, tmp_path: Path) -> None:
    async with kept(simulator, tmp_path) as told:
        assert await told.call() == 200
        balance = await told.sidecar.balance("a")
        assert (balance.calls, balance.pending_pusd) == (1, 0)
        assert balance.posted_pusd > 0
        async with asyncio.timeout(60):
            while "settled" not in [event.type for event in told.events]:
                await asyncio.sleep(0.01)


async def test_a_frozen_account_admits_nothing_and_a_closed_one_is_forgotten(
    simulator: Simulator, tmp_path: Path
) -> None:
    async with kept(simulator, tmp_path) as told:
        assert (await told.sidecar.freeze("a", "enough")).frozen == "enough"
        assert await told.call() == 402
        await told.sidecar.close("a")
        assert await told.call() == 401


async def test_a_killed_proxy_comes_back_at_its_address_with_its_accounts(simulator: Simulator, tmp_path: Path) -> None:
    async with kept(simulator, tmp_path) as told:
        base_url, pid = told.sidecar.base_url, told.sidecar.pid
        assert await told.call() == 200
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while told.sidecar.pid == pid:
                await asyncio.sleep(0.01)
        balance = await told.sidecar.balance("a")  # waits until the new one answers
        assert (balance.calls, told.sidecar.base_url) == (1, base_url)
        async with asyncio.timeout(60):
            while await told.call() != 200:
                await asyncio.sleep(0.05)
        assert any("starting it again" in line for line in told.lines)
        assert told.dead == []


async def test_a_proxy_that_cannot_start_says_why(simulator: Simulator, tmp_path: Path) -> None:
    with open_new(tmp_path / "runs", "r") as folder:
        settings = SidecarSettings(folder.path, "ftp://nowhere", "r", folder.short_dir, None)
        sidecar = Sidecar(settings, lambda event: None, lambda reason: None, lambda line: None)
        with pytest.raises(SidecarError, match="upstream"):
            await sidecar.start()
        await sidecar.stop()
