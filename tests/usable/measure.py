"""How much of a limit is spent when the first call is refused: real proxy, real sockets, simulated OpenRouter."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

import aiohttp

from openrouter_sim import Scenario, Simulator, Tokenizer
from openrouter_sim.billing.prices import price_of
from openrouter_sim.catalog.models import SimModel
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from tests.support.proxy_world import KEY_MARGIN_USD, World
from tests.usable.agent import Agent
from tests.usable.sessions import Session

PICO = Decimal(10) ** 12
WEIGHING = "weighing"
"""The purpose of a call that the proxy makes to weigh a text, in costs.jsonl."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the proxy promises, and how OpenRouter counts.

    Attributes:
        bound: How the tokens of new text are bounded.
        cache_bound: The price at which a known beginning is reserved. With `billed` a sub-key has room for OpenRouter's own
            check of a call, as those of a run have.
        counter: How many tokens a prompt has.
    """

    bound: Literal["measured", "proven"] = "measured"
    cache_bound: Literal["write", "billed"] = "write"
    counter: Tokenizer = Tokenizer.USUAL


@dataclass(frozen=True, slots=True)
class Usable:
    """What came of a limit.

    Attributes:
        at_first: Share of the limit that was posted when the first call was refused.
        at_end: Share that was posted when every agent had been refused and all had settled.
        calls: Calls that were admitted.
        cut_short: Answers that ended at their bound, which only a clamp makes so low.
        weighed: Share of the limit that was spent on weighing texts; it is part of the others.
    """

    at_first: Decimal
    at_end: Decimal
    calls: int
    cut_short: int
    weighed: Decimal


@contextlib.asynccontextmanager
async def proxied(rules: Rules) -> AsyncIterator[World]:
    """Serve a simulated OpenRouter and a proxy before it until the block ends."""
    with tempfile.TemporaryDirectory(prefix="usable-") as folder:
        scenario = Scenario(comments=0, tokenizer=rules.counter)
        async with Simulator(scenario) as sim, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            config = Config(
                data=folder,
                upstream=sim.base_url,
                listen="127.0.0.1:0",
                bound=rules.bound,
                cache_bound=rules.cache_bound,
            )
            async with running(config) as proxy:
                yield World(sim, proxy, client, Path(folder))


async def usable(session: Session, model: str, limit_usd: str, rules: Rules | None = None) -> Usable:
    """Have the agents of a session spend a limit.

    Raises:
        AssertionError: The ledger and the simulator's bill differ, or the bill is above the limit.
    """
    rules = rules or Rules()
    async with proxied(rules) as world:
        room_usd = check_usd(world.sim.catalog[model]) if rules.cache_bound == "billed" else KEY_MARGIN_USD
        await world.reopen("a", await world.sub_key("a", Decimal(limit_usd) + room_usd), limit_usd)
        return await _spend(world, session, model, Decimal(limit_usd))


def check_usd(model: SimModel) -> Decimal:
    """Return the most that OpenRouter's own check of one call can ask of a key.

    That is the longest prompt, or the longest completion, on the dearest endpoint.
    """
    widest = Decimal(0)
    for endpoint in model.endpoints:
        price = price_of(endpoint.pricing, endpoint.context_length, 0.0)
        widest = max(widest, endpoint.context_length * price.prompt, endpoint.output_tokens_max * price.completion)
    return widest


async def _spend(world: World, session: Session, model: str, limit_usd: Decimal) -> Usable:
    url, token = f"{world.base_url}/chat/completions", world.tokens["a"]
    agents = [Agent(world.client, url, token, model, session, f"agent {number}") for number in range(session.agents)]
    running_agents = [asyncio.ensure_future(agent.run()) for agent in agents]
    await asyncio.wait(running_agents, return_when=asyncio.FIRST_COMPLETED)
    at_first = Decimal(world.proxy.ledger.account("a").posted_pusd) / PICO
    await asyncio.gather(*running_agents)
    await world.settled()
    assert world.posted_usd() == world.billed_usd() <= limit_usd
    weighed = [Decimal(line["cost_usd"]) for line in world.cost_lines() if line.get("purpose") == WEIGHING]
    return Usable(
        at_first / limit_usd,
        world.posted_usd() / limit_usd,
        sum(agent.calls for agent in agents),
        sum(agent.cut_short for agent in agents),
        sum(weighed, Decimal(0)) / limit_usd,
    )
