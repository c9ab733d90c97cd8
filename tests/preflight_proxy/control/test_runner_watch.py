"""A run whose runner is gone spends nothing more, and its proxy ends once it has nothing left to find out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openrouter_sim import Scenario
from preflight_proxy.control.runner_watch import RunnerWatch
from tests.support.control_world import RUN, Controlled, controlled

pytestmark = pytest.mark.wire


@dataclass
class Watched:
    """A watch of its own beside the proxy's, which has a longer grace."""

    watch: RunnerWatch
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def ends(self) -> None:
        """Return once there is nothing left to do."""
        await asyncio.wait_for(self.over.wait(), 30)


def watched(world: Controlled, run: str = RUN, grace_s: float = 0.05) -> Watched:
    over = asyncio.Event()
    proxy = world.proxy
    return Watched(RunnerWatch(proxy.ledger, proxy.accounts, run=run, grace_s=grace_s, over=over, linger_s=0.0), over)


async def test_a_runner_that_is_gone_for_the_grace_has_its_accounts_frozen(tmp_path: Path) -> None:
    async with controlled(tmp_path, grace_s=0.05) as world:
        spec = {"run": "another", "limit_usd": "1", "token": "pf-stranger", "key": await world.sub_key("stranger")}
        async with world.follow() as events:
            await world.put("a")
            await world.ask("PUT", "/accounts/stranger", spec)
            await events.next("opened")
        await world.frozen("a", "runner lost")
        assert world.proxy.ledger.account("stranger").frozen is None
        async with world.post() as response:
            assert response.status in (401, 402)


async def test_a_runner_that_comes_back_in_time_keeps_its_accounts_open(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        await world.put("a")
        lost, back = watched(world, "another", grace_s=0.4), watched(world, grace_s=0.2)
        for each, run in ((lost, "another"), (back, RUN)):
            await each.watch.comes(run)
            each.watch.goes(run)
        await back.watch.comes(RUN)
        await lost.ends()  # so a grace of half its length is over
        assert not back.over.is_set()
        async with world.post() as response:
            assert response.status == 200


async def test_two_connections_are_two_signs_of_life(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        await world.put("a")
        two, one = watched(world), watched(world, "another")
        for each, run in ((two, RUN), (two, RUN), (one, "another")):
            await each.watch.comes(run)
        two.watch.goes(RUN)
        one.watch.goes("another")
        await one.ends()
        assert world.proxy.ledger.account("a").frozen is None


async def test_a_runner_that_never_follows_is_lost_too(tmp_path: Path) -> None:
    async with controlled(tmp_path, grace_s=0.05) as world:
        await world.put("a")
        async with world.follow("another"):
            await world.frozen("a", "runner lost")


async def test_a_proxy_stays_while_it_can_find_out_what_a_call_cost(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        world.sim.scenario = Scenario(tokens_per_s=10.0)
        await world.put("a")
        lost = watched(world)
        await lost.watch.comes(RUN)
        async with world.post(max_tokens=10, stream=True) as response:
            await response.content.readline()
            lost.watch.goes(RUN)
            await world.frozen("a", "runner lost")
        await lost.ends()
        account = world.proxy.ledger.account("a")
        assert (account.pending_pusd, account.calls, account.assumed_pusd) == (0, 1, 0)


async def test_a_proxy_of_no_run_waits_for_nobody(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        proxy = world.proxy
        alone = RunnerWatch(proxy.ledger, proxy.accounts, run=None, grace_s=0.0, over=asyncio.Event(), linger_s=0.0)
        alone.begin()
        await alone.comes(None)
        alone.goes(None)
        lost = watched(world, "another")
        lost.watch.begin()
        await lost.ends()
        assert not proxy.over.is_set()
