"""A minute of failures without a cost must not use up the budget (M13, unknown cost)."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openrouter_sim import FaultRule, Rule, Scenario, make_fault
from tests.drills.stage import stage

pytestmark = pytest.mark.wire

FAILURE = make_fault("http_error", {"status": 500, "shows_id": False})
ROUNDS_MIN = 40
DEAR: dict[str, Any] = {"model": "anthropic/claude-sonnet-4.5", "max_tokens": 16_000}
"""A call that reserves a quarter of a dollar."""


async def test_a_burst_of_failures_without_ids_leaves_the_budget_available(tmp_path: Path) -> None:
    """There are more calls than the budget can reserve at once. The others wait until evidence frees reservations."""
    async with stage(tmp_path, Scenario(faults=(FaultRule(FAILURE),))) as play:
        await play.proxy.start()
        account = await play.open("a", "5.00")
        answers = await asyncio.gather(*(play.call(account, **DEAR) for _ in range(60)))
        assert {status for status, _body in answers} == {500}
        async with asyncio.timeout(90):
            while Decimal((await play.balance(account))["pending_usd"]):
                await asyncio.sleep(0.05)
        assert Decimal((await play.balance(account))["available_usd"]) >= Decimal("4.95")
        play.sim.scenario = Scenario()
        assert (await play.call(account, **DEAR))[0] == 200


async def test_failures_among_calls_that_succeed_are_assumed_at_no_more_than_what_succeeded_meanwhile(
    tmp_path: Path,
) -> None:
    """The key's usage counts successes and charged failures alike, so each dollar may explain one call only."""
    scenario = Scenario(faults=(FaultRule(FAILURE, contains="fail"),), replies=(Rule(tokens=50),))
    async with stage(tmp_path, scenario, key_usage_lag_s=1.0, generation_s_max=1.0) as play:
        await play.proxy.start()
        account = await play.open("a", "5.00")
        rounds = 0
        async with asyncio.timeout(90):  # those that failed first are decided while others still fail and succeed
            while rounds < ROUNDS_MIN or (await play.balance(account))["unknown"] >= rounds / 2:
                failed = play.call(account, "fail", model=DEAR["model"], max_tokens=200)
                await asyncio.gather(failed, play.call(account))
                await asyncio.sleep(0.05)
                rounds += 1
            while Decimal((await play.balance(account))["pending_usd"]):
                await asyncio.sleep(0.05)
        balance = await play.balance(account)
        assert Decimal(balance["assumed_usd"]) <= play.billed_usd(account)
