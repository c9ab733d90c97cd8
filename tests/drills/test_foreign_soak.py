"""Many callers on the user's own key while upstream fails without an id (M13, unknown cost); shares its parts with `make soak`."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import islice
from pathlib import Path
from random import Random

import aiohttp
import pytest

from openrouter_sim import Simulator
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from tests.drills.fast_time import MINUTE_S, play
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import World
from tests.torture import plan
from tests.torture.evidence import read_bill, read_ledger, read_seen
from tests.torture.shared_key import judge_shared
from tests.torture.upstream import CREDIT_USD, OTHER, Seen, scenario_of

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

CALLERS = 64
CALLS_EACH = 4
FAULT_RATE = 0.5
KEY_USAGE_LAG_S = 20.0


@pytest.mark.parametrize("others", [False, True], ids=["proxy alone", "other traffic on the key"])
def test_after_35_minutes_nothing_is_pending_and_no_bill_is_above_the_ledger(tmp_path: Path, others: bool) -> None:
    """Without other traffic the ledger exceeds the bill by at most a millionth of a dollar for each unknown call."""

    async def drill(clock: FakeClock) -> None:
        seen: list[Seen] = []
        scenario = scenario_of("no-id", FAULT_RATE, seen, KEY_USAGE_LAG_S, clock)
        simulator = Simulator(scenario, credits_usd=CREDIT_USD, clock=clock.epoch_s)
        async with simulator as sim, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as client:
            config = Config(data=str(tmp_path), upstream=sim.base_url, listen="127.0.0.1:0", bound="proven")
            async with running(config, clock) as proxy:
                world = World(sim, proxy, client, tmp_path)
                for name in "ab":
                    await world.open_foreign(name, "1000")
                await asyncio.gather(*(call_on(world, number, others) for number in range(CALLERS)))
                async with asyncio.timeout(35 * MINUTE_S):
                    while proxy.ledger.store.pending():
                        await asyncio.sleep(5.0)  # of fast time
            report = {"bill": sim.bill().to_json(), "seen": seen}
        ledger = read_ledger(tmp_path, frozenset(), {})
        verdict = judge_shared(ledger, read_bill(report), read_seen(report))
        assert verdict.problems == []
        assert verdict.is_lawful
        assert verdict.unknown_count > 0
        assert verdict.assumed_count > 0

    play(drill)


async def call_on(world: World, number: int, others: bool) -> None:
    """Make some calls one after the other; with `others`, as many beside the proxy on the same key."""
    token, key = world.tokens["ab"[number % 2]], world.sim.inference_key
    random = Random(number)
    for ask in islice(plan.asks(random), CALLS_EACH):
        await asyncio.sleep(random.uniform(0, MINUTE_S))
        await post(world.client, world.base_url + ask.path, ask.body, token)
        if others:
            await post(world.client, world.sim.base_url + ask.path, {**ask.body, "user": OTHER}, key)


async def post(client: aiohttp.ClientSession, url: str, body: dict[str, object], token: str) -> None:
    """Make one call and read its answer, if one comes."""
    with contextlib.suppress(aiohttp.ClientError):
        async with client.post(url, json=body, headers={"Authorization": f"Bearer {token}"}) as answer:
            await answer.read()
