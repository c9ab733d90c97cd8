"""One proxy and one simulator for each wire test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from openrouter_sim import Scenario, Simulator
from preflight_proxy.app import running
from preflight_proxy.base.config import Bound
from tests.support.proxy_world import World, quick_config


@pytest.fixture
def scenario() -> Scenario:
    """What the simulator plays; overridden by a parameter or a fixture of the test's own."""
    return Scenario()


@pytest.fixture
def bound() -> Bound:
    """How many tokens a prompt counts as; a test may override it."""
    return "measured"


@pytest.fixture
async def world(tmp_path: Path, scenario: Scenario, bound: Bound) -> AsyncIterator[World]:
    """One open account `a` with $1.00; at the end nothing is pending and the ledger equals the bill."""
    async with Simulator(scenario) as sim:
        async with (
            running(quick_config(tmp_path, sim.base_url, bound=bound)) as proxy,
            aiohttp.ClientSession() as client,
        ):
            made = World(sim, proxy, client, tmp_path)
            await made.open()
            yield made
            await made.all_settled()
        made.check_bill()
