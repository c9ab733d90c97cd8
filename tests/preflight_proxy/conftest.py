"""One proxy and one simulator for each wire test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from openrouter_sim import Scenario, Simulator
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from tests.support.proxy_world import World


@pytest.fixture
def scenario() -> Scenario:
    """What the simulator plays; overridden by a parameter or a fixture of the test's own."""
    return Scenario()


@pytest.fixture
async def world(tmp_path: Path, scenario: Scenario) -> AsyncIterator[World]:
    """One open account `a` with $1.00; at the end nothing is pending and the ledger equals the bill."""
    async with Simulator(scenario) as sim:
        config = Config(
            data=str(tmp_path),
            upstream=sim.base_url,
            listen="127.0.0.1:0",
            key_usage_lag_s=0.3,
            generation_s_max=1.0,
            call_s_max=0.5,
        )
        async with running(config) as proxy, aiohttp.ClientSession() as client:
            made = World(sim, proxy, client, tmp_path)
            await made.open()
            yield made
            for name in list(proxy.ledger.accounts()):
                await made.settled(name)
        if not made.may_differ:
            assert made.posted_usd() == made.billed_usd()
