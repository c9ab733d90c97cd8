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
from agent_preflight.sidecar import Sidecar, SidecarError
from openrouter_sim import Simulator
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import AccountSpec, LedgerEvent
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
        base_url, pid = kept.sidecar.base_url, kept.sidecar.pid
        assert await kept.call() == 200
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while kept.sidecar.pid == pid:
                await asyncio.sleep(0.01)
        balance = await kept.sidecar.balance("a")  # waits until the new one answers
        assert (balance.calls, kept.sidecar.base_url) == (1, base_url)
        async with asyncio.timeout(60):
            while await kept.call() != 200:
                await asyncio.sleep(0.05)
        assert any("starting it again" in line for line in kept.lines)
        assert kept.dead == []


async def test_a_proxy_that_cannot_start_says_why(simulator: Simulator, tmp_path: Path) -> None:
    with open_new(tmp_path / "runs", "r") as folder:
        config = Config(data=str(folder.path), upstream="ftp://nowhere", run="r")
        sidecar = Sidecar(config, folder.short_dir, lambda event: None, lambda reason: None, lambda line: None)
        with pytest.raises(SidecarError, match="upstream"):
            await sidecar.start()
        await sidecar.stop()
