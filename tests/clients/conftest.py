"""One proxy and one simulator for each client's test, and the clients that come from npm."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from openrouter_sim import Scenario, Simulator
from preflight_proxy.app import running
from tests.agent_preflight.conftest import simulator
from tests.clients.npm import CLAUDE_CODE, CODEX, command
from tests.clients.stage import WORDS, Stage
from tests.clients.tap import Tap
from tests.support.proxy_world import quick_config
from tests.support.trial_field import trials

__all__ = ["simulator", "trials"]


@asynccontextmanager
async def _stage(tmp_path: Path, control: str) -> AsyncIterator[Stage]:
    homes = tmp_path / "homes"
    homes.mkdir()
    async with Simulator(Scenario(replies=(WORDS,))) as sim:
        config = quick_config(
            tmp_path, sim.base_url, control=control, key_usage_lag_s=0.5, generation_s_max=2.0, call_s_max=1.0
        )
        async with running(config) as proxy, aiohttp.ClientSession() as client:
            assert proxy.base_url is not None
            at = urlsplit(proxy.base_url)
            async with Tap(at.hostname or "", at.port or 0) as tap:
                yield Stage(sim, proxy, client, tmp_path, tap=tap, control=control, homes=homes)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """One open account `a` with $1.00; at the end nothing is pending and the ledger equals the bill."""
    with tempfile.TemporaryDirectory(prefix="ap-") as short:  # a socket's path has room for little
        async with _stage(tmp_path, f"{short}/control.sock") as made:
            await made.open()
            yield made
            await made.all_settled()
            made.check_bill()


@pytest.fixture(scope="session")
def codex_command() -> list[str]:
    """The command that starts Codex."""
    return command(CODEX)


@pytest.fixture(scope="session")
def claude_command() -> list[str]:
    """The command that starts Claude Code."""
    return command(CLAUDE_CODE)
