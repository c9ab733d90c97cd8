"""How much of a limit is spent when the first call is refused: real proxy, real sockets, simulated OpenRouter."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp

from openrouter_sim import Scenario, Simulator
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from tests.support.proxy_world import World
from tests.usable.agent import Agent
from tests.usable.sessions import Session

PICO = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class Usable:
    """What came of a limit.

    Attributes:
        at_first: Share of the limit that was posted when the first call was refused.
        at_end: Share that was posted when every agent had been refused and all had settled.
        calls: Calls that were admitted.
        cut_short: Answers that ended at their bound, which only a clamp makes so low.
    """

    at_first: Decimal
    at_end: Decimal
    calls: int
    cut_short: int


async def usable(session: Session, model: str, limit_usd: str) -> Usable:
    """Have the agents of a session spend a limit.

    Raises:
        AssertionError: The ledger and the simulator's bill differ, or the bill is above the limit.
    """
    with tempfile.TemporaryDirectory(prefix="usable-") as folder:
        async with Simulator(Scenario(comments=0)) as sim, aiohttp.ClientSession() as client:
            config = Config(data=folder, upstream=sim.base_url, listen="127.0.0.1:0")
            async with running(config) as proxy:
                world = World(sim, proxy, client, Path(folder))
                await world.open("a", limit_usd)
                return await _spend(world, session, model, Decimal(limit_usd))


async def _spend(world: World, session: Session, model: str, limit_usd: Decimal) -> Usable:
    url, token = f"{world.base_url}/chat/completions", world.tokens["a"]
    agents = [Agent(world.client, url, token, model, session, f"agent {number}") for number in range(session.agents)]
    running_agents = [asyncio.ensure_future(agent.run()) for agent in agents]
    await asyncio.wait(running_agents, return_when=asyncio.FIRST_COMPLETED)
    at_first = Decimal(world.proxy.ledger.account("a").posted_pusd) / PICO
    await asyncio.gather(*running_agents)
    await world.settled()
    assert world.posted_usd() == world.billed_usd() <= limit_usd
    return Usable(
        at_first / limit_usd,
        world.posted_usd() / limit_usd,
        sum(agent.calls for agent in agents),
        sum(agent.cut_short for agent in agents),
    )
