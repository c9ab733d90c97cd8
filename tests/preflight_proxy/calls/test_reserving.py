"""From a worst case to a reservation: nothing is left pending for a client that is gone."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientResponse

from openrouter_sim import Rule, Scenario
from tests.support.proxy_world import DEAR_MODEL, World

pytestmark = pytest.mark.wire

HOLDS_IT_ALL: dict[str, Any] = {"model": DEAR_MODEL, "max_tokens": 1500}


async def test_a_client_that_leaves_while_it_waits_sends_nothing_and_holds_nothing(world: World) -> None:
    await world.open("one", "0.03")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=20),))
    token = world.tokens["one"]
    first = asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__())
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    second = asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__())
    async with asyncio.timeout(30):
        while not world.proxy.ledger.waiting_calls.has("one"):
            await asyncio.sleep(0.005)
    second.cancel()
    assert (await first).status == 200
    await world.settled("one")
    assert len(world.sim.requests) == 1


async def test_a_top_up_lets_a_refused_call_pass(world: World) -> None:
    await world.open("poor", "0.000001")
    token = world.tokens["poor"]
    for expected in (402, 401):
        async with world.post(token=token, max_tokens=100) as response:
            assert response.status == expected
    world.proxy.accounts.set_limit("poor", 10**12)
    async with world.post(token=token, max_tokens=100) as response:
        assert response.status == 200


async def test_a_freeze_refuses_the_calls_that_wait(world: World) -> None:
    await world.open("one", "0.03")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=20),))
    token = world.tokens["one"]
    calls = [asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__()) for _ in range(3)]
    async with asyncio.timeout(30):
        while not world.proxy.ledger.waiting_calls.has("one"):
            await asyncio.sleep(0.005)
    await world.proxy.accounts.freeze("one", "test")
    assert {response.status for response in await asyncio.gather(*calls)} <= {401, 402}
    await world.settled("one")
    assert len(world.sim.requests) <= 1


async def test_a_call_that_waited_is_quoted_anew_with_what_others_were_billed_at(world: World) -> None:
    """Two sub-agents with the same system text: by its bytes the second would not fit once the first is paid."""
    await world.open("one", "0.029")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=4),))
    system = {"role": "system", "content": "word " * 1600}

    def ask(task: str) -> asyncio.Future[ClientResponse]:
        messages = [system, {"role": "user", "content": task}]
        body: dict[str, Any] = {"model": DEAR_MODEL, "messages": messages, "max_tokens": 16}
        return asyncio.ensure_future(world.post(token=world.tokens["one"], **body).__aenter__())

    first = ask("one")
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    second = ask("two")
    assert [(await each).status for each in (first, second)] == [200, 200]
    await world.settled("one")
    (before, after) = (Decimal(line["reserved_usd"]) for line in world.cost_lines())
    assert before + Decimal(world.cost_lines()[0]["cost_usd"]) > Decimal("0.029") > 3 * after
