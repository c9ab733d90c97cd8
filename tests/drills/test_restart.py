"""The proxy is killed while agents wait for their turn, and starts again: no agent is told that the budget is spent (M18, M21)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from openrouter_sim import Rule, Scenario
from tests.drills.stage import SPENT, Stage, stage
from tests.torture.proxy import Account

pytestmark = pytest.mark.wire

AGENTS = 8
BOUND = 2000
"""A call's worst case is a little above its bound's 0.0008 dollars, so that 0.0017 hold two at a time."""


async def agent(play: Stage, account: Account, asked: asyncio.Event) -> list[tuple[int, bytes]]:
    """Call, and call again when the connection breaks, as clients do; return all answers."""
    answers: list[tuple[int, bytes]] = []
    while not answers or answers[-1][0] != 200:
        await play.proxy.up.wait()
        asked.set()
        try:
            answers.append(await play.call(account, max_tokens=BOUND))
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0.05)
        assert len(answers) < 5, answers
    return answers


async def test_eight_agents_that_wait_while_the_proxy_is_killed_are_all_served(tmp_path: Path) -> None:
    """Two calls in flight reserve the whole budget at the kill, and stay reserved as unknown calls until evidence decides."""
    scenario = Scenario(first_token_s=30.0, replies=(Rule(tokens=10),))  # far longer than it takes to kill
    async with stage(tmp_path, scenario) as play:
        await play.proxy.start()
        account = await play.open("a", "0.0017")
        asked = [asyncio.Event() for _ in range(AGENTS)]
        agents = [asyncio.ensure_future(agent(play, account, each)) for each in asked]
        await asyncio.gather(*(each.wait() for each in asked))
        await play.sim.until(lambda: len(play.sim.requests) == 2)
        play.proxy.kill()
        await play.proxy.died()
        play.sim.scenario = Scenario(replies=(Rule(tokens=10),))
        await play.proxy.start()
        assert int((await play.balance(account))["unknown"]) == 2
        async with asyncio.timeout(90):
            answers = [each for got in await asyncio.gather(*agents) for each in got]
        assert not any(SPENT in body for _status, body in answers)
        assert [status for status, _body in answers] == [200] * AGENTS
        assert float((await play.balance(account))["posted_usd"]) <= 0.0017


async def test_tokens_and_balances_hold_over_a_kill_and_budget_txt_is_right_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.proxy.start()
        account = await play.open("a", "1.00")
        assert (await play.call(account))[0] == 200
        before = await play.balance(account)
        play.proxy.kill()
        await play.proxy.died()
        account.budget_file.write_text("torn")
        (tmp_path / "costs.jsonl").write_bytes((tmp_path / "costs.jsonl").read_bytes()[:-20])
        await play.proxy.start()
        after = await play.balance(account)
        assert (after["posted_usd"], after["calls"]) == (before["posted_usd"], before["calls"])
        assert "remaining of $1.00" in account.budget_file.read_text()
        assert (tmp_path / "costs.jsonl").read_text().endswith("}\n")
        assert (await play.call(account))[0] == 200
