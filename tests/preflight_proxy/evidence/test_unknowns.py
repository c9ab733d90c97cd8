"""Unknown outcomes are decided by evidence, never by silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from preflight_proxy.app import running
from preflight_proxy.core.evidence.evidence import GENERATION_S_MAX, KEY_USAGE_LAG_S
from tests.support.foreign_key_world import RESERVED_PUSD, ForeignKeyWorld
from tests.support.proxy_world import World, quick_config

pytestmark = pytest.mark.wire


def outcomes(world: World) -> list[str]:
    return [line["outcome"] for line in world.cost_lines()]


async def test_an_error_without_an_id_that_was_not_charged_is_voided_by_the_keys_usage(world: World) -> None:
    fault = make_fault("http_error", {"status": 500, "shows_id": False})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    async with world.post() as response:
        assert response.status == 500
    assert world.proxy.ledger.account("a").pending_pusd > 0
    await world.settled()
    assert outcomes(world) == ["voided"]


async def test_an_error_without_an_id_that_was_charged_is_assumed_at_what_the_key_shows(world: World) -> None:
    fault = make_fault("http_error", {"status": 500, "shows_id": False, "charge": True})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    async with world.post() as response:
        await response.read()
    await world.settled()
    assert outcomes(world) == ["assumed"]
    assert world.posted_usd() == world.billed_usd() > 0


async def test_a_stream_without_usage_is_posted_from_its_generation(world: World) -> None:
    world.sim.scenario = Scenario(generation_delay_s=0.3, faults=(FaultRule(make_fault("missing_usage"), times=1),))
    async with world.post(stream=True) as response:
        await response.read()
    await world.settled()
    assert outcomes(world) == ["posted"]


async def test_a_generation_that_never_shows_is_decided_by_the_key(world: World) -> None:
    faults = (FaultRule(make_fault("missing_usage"), times=1), FaultRule(make_fault("generation_never"), times=1))
    world.sim.scenario = Scenario(faults=faults)
    async with world.post(stream=True) as response:
        await response.read()
    await world.settled()
    assert outcomes(world) == ["assumed"]


async def test_a_minute_of_failures_without_ids_gives_the_money_back(world: World) -> None:
    fault = make_fault("http_error", {"status": 500, "shows_id": False})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=30),))
    for _ in range(30):
        async with world.post() as response:
            await response.read()
    await world.settled()
    account = world.proxy.ledger.account("a")
    assert account.available_pusd == account.limit_pusd
    assert set(outcomes(world)) == {"voided"}


async def test_a_proxy_that_starts_again_decides_what_the_last_one_left_pending(tmp_path: Path) -> None:
    """The first proxy ends while upstream still generates; a call to the second waits until its account is open again."""
    fault = FaultRule(make_fault("http_error", {"status": 500, "shows_id": False, "charge": True}), times=1)
    async with Simulator(Scenario(faults=(fault,))) as sim, aiohttp.ClientSession() as client:
        # In these two seconds the early call must be served, or the key's usage counts it as unknown too.
        config = quick_config(tmp_path, sim.base_url, key_usage_lag_s=2.0)
        async with running(config) as proxy:
            world = World(sim, proxy, client, tmp_path)
            await world.open()
            key = proxy.ledger.account_state("a").key
            assert key is not None
            async with world.post() as response:
                assert response.status == 500
        async with running(config) as proxy:
            again = World(sim, proxy, client, tmp_path, tokens=world.tokens)
            assert proxy.ledger.account("a").pending_pusd > 0
            early = asyncio.ensure_future(again.post().__aenter__())
            await sim.until(lambda: len(sim.requests) == 1)
            await again.reopen("a", key.reveal())
            assert (await early).status == 200
            await again.settled()
            assert again.posted_usd() == sim.bill().total_usd > 0
        assert outcomes(again) == ["posted", "assumed"]


async def test_after_a_restart_failed_reads_of_a_sub_key_give_up_an_old_call_only_after_minutes(tmp_path: Path) -> None:
    """Upstream may be as unwell as whatever made the proxy start again."""
    unread = Scenario(faults=(FaultRule(make_fault("early_answer"), api="key"),))
    patience_s = 2 * (GENERATION_S_MAX + KEY_USAGE_LAG_S)
    async with ForeignKeyWorld(tmp_path, accounts="") as desk:
        for cost_pusd in (RESERVED_PUSD // 2, 1):
            desk.open("a", own=True)
            desk.lose(await desk.call())
            desk.bill(cost_pusd)
            desk.clock.advance(10_000)
            desk.restart()
            desk.open("a", own=True)
            await desk.pass_s(KEY_USAGE_LAG_S / 2)  # it can be read, but when what was posted is not known yet
            desk.sim.scenario = unread
            await desk.pass_s(patience_s - 5)
            assert desk.pending
            if cost_pusd == 1:
                await desk.pass_s(10)
            desk.sim.scenario = Scenario()
            await desk.pass_s(10)
            assert not desk.pending
        assert desk.ends == [("assumed", RESERVED_PUSD // 2), ("assumed", RESERVED_PUSD)]


async def test_calls_whose_records_come_too_late_are_charged_together_what_the_key_shows(world: World) -> None:
    """Two calls of which the usage tells the sum."""
    faults = (FaultRule(make_fault("missing_usage"), times=2),)
    world.sim.scenario = Scenario(generation_delay_s=4.0, faults=faults)
    for tokens in (10, 90):
        async with world.post(stream=True, text=f"[[sim tokens={tokens}]]", max_tokens=100) as response:
            await response.read()
    billed_pusd = int(world.billed_usd().scaleb(12))
    async with asyncio.timeout(40):
        while world.proxy.ledger.account("a").pending_pusd:
            account = world.proxy.ledger.account("a")
            assert account.posted_pusd + account.pending_pusd >= billed_pusd
            await asyncio.sleep(0.01)
    assert outcomes(world) == ["assumed", "assumed"]
    assert world.proxy.ledger.account("a").posted_pusd == billed_pusd
