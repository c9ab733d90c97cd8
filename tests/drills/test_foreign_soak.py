"""Many callers on a key of the user's own, while upstream fails without an id: 35 minutes later all is decided, and right (M13)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from preflight_proxy.core.money import usd_text
from tests.drills.fast_time import FastClock, FastLoop
from tests.support.proxy_world import World, chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

CALLERS = 64
CALLS_EACH = 4
MINUTE_S = 60.0
NAMELESS = {"shows_id": False}
EDGE = {"shows_id": False, "envelope": False, "edge": True}
FAULTS = (
    FaultRule(make_fault("http_error", {"status": 500, **NAMELESS}), probability=0.1),
    FaultRule(make_fault("http_error", {"status": 502, "charge": True, **NAMELESS}), probability=0.1),
    FaultRule(make_fault("http_error", {"status": 524, "charge": True, **EDGE}), probability=0.1),
    FaultRule(make_fault("http_error", {"status": 429, **EDGE}), probability=0.1),
    FaultRule(make_fault("close_on_request"), probability=0.05),
    FaultRule(make_fault("hide_generation_id"), probability=0.3),
    FaultRule(make_fault("reset"), probability=0.1),
    FaultRule(make_fault("missing_usage"), probability=0.1),
)


def play(drill: Coroutine[Any, Any, None]) -> None:
    """Run a drill on fast time."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(drill)


@pytest.mark.parametrize("others", [False, True])
def test_after_35_minutes_nothing_is_pending_and_no_bill_is_above_the_ledger(tmp_path: Path, others: bool) -> None:
    """Without other traffic ledger and bill differ by no more than a millionth of a dollar for each unknown call."""
    play(_drill(tmp_path, others))


async def _drill(data: Path, others: bool) -> None:
    scenario = Scenario(faults=FAULTS, key_usage_lag_s=20.0, generation_delay_s=10.0)
    clock = FastClock(asyncio.get_running_loop())
    timeout = aiohttp.ClientTimeout(total=None)
    async with Simulator(scenario, clock=clock.epoch_s) as sim, aiohttp.ClientSession(timeout=timeout) as client:
        config = Config(data=str(data), upstream=sim.base_url, listen="127.0.0.1:0")
        async with running(config, clock) as proxy:
            world = World(sim, proxy, client, data)
            for name in "ab":
                await world.open_foreign(name)
            others_pusd = sum(await asyncio.gather(*(_caller(world, number, others) for number in range(CALLERS))))
            async with asyncio.timeout(35 * MINUTE_S):
                while proxy.ledger.store.pending():
                    await asyncio.sleep(
                        5
                    )  # a hundredth of a second, as elsewhere, is a millisecond of ours all the same
        billed_usd = world.billed_usd() - others_pusd
        assumed = [account.assumed_pusd for account in world.proxy.ledger.accounts().values()]
        unknown = sum(line["outcome"] in ("assumed", "voided") for line in world.cost_lines())
        assert billed_usd <= world.posted_usd()
        if not others:
            assert world.posted_usd() <= billed_usd + Decimal(usd_text(sum(assumed)))
            assert world.posted_usd() - billed_usd <= unknown * Decimal("1e-6")
        assert unknown


async def _caller(world: World, number: int, others: bool) -> Decimal:
    """Calls one after the other; what other programs spent on the key beside them."""
    random, beside_usd = Random(number), Decimal(0)
    for _ in range(CALLS_EACH):
        await asyncio.sleep(random.uniform(0, 60))
        body: dict[str, Any] = {"text": f"[[sim tokens={random.randrange(1, 80)}]]", "stream": random.random() < 0.5}
        with contextlib.suppress(aiohttp.ClientError):
            async with world.post(token=world.tokens["ab"[number % 2]], **body, max_tokens=100) as response:
                await response.read()
        if others:
            beside_usd += await _beside(world)
    return beside_usd


async def _beside(world: World) -> Decimal:
    """Another program uses the key, not by way of the proxy; what it is billed."""
    headers = {"Authorization": f"Bearer {world.sim.inference_key}"}
    url = f"{world.sim.base_url}/chat/completions"
    with contextlib.suppress(aiohttp.ClientError):
        async with world.client.post(url, json=chat("[[sim tokens=20]]"), headers=headers) as response:
            told = await response.json(content_type=None) if response.status == 200 else {}
            return Decimal(str((told.get("usage") or {}).get("cost") or 0))
    return Decimal(0)
