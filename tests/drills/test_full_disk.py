"""No space left, at each step that writes: fail closed, say so, forward nothing, lose nothing (M10, M21)."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from openrouter_sim import FaultRule, Scenario
from tests.drills.stage import STORE, Stage, stage
from tests.support.paused_answer import PausedAnswer
from tests.torture.proxy import Account

pytestmark = pytest.mark.wire


async def streamed(play: Stage, account: Account, began: asyncio.Event) -> bytes:
    """One stream to its end."""
    async with play.start(account, "[[sim tokens=60]]", stream=True, max_tokens=100) as answer:
        assert answer.status == 200
        began.set()
        return await answer.read()


def first_held() -> tuple[Scenario, asyncio.Event]:
    """An upstream whose first answer goes on until the event is set."""
    held = PausedAnswer()
    return Scenario(faults=(FaultRule(held, times=1),)), held.over


async def closed_and_decided(play: Stage, account: Account) -> None:
    """Nothing is forwarded any more; after a restart with space, all is decided and calls are served."""
    forwarded = len(play.sim.requests)
    status, body = await play.call(account)
    assert (status, STORE in body) == (402, True)
    assert len(play.sim.requests) == forwarded
    play.proxy.kill()
    await play.proxy.died()
    await play.proxy.start()
    async with asyncio.timeout(90):
        while Decimal((await play.balance(account))["pending_usd"]):
            await asyncio.sleep(0.05)
    assert (await play.call(account))[0] == 200
    assert Decimal((await play.balance(account))["posted_usd"]) == play.billed_usd(account)


async def test_at_the_reservation_nothing_leaves_and_a_running_stream_goes_on(tmp_path: Path) -> None:
    scenario, over = first_held()
    async with stage(tmp_path, scenario) as play:
        await play.proxy.start("tests.torture.kill", "reserve", "before", "2", "full")
        account, began = await play.open("a", "1.00"), asyncio.Event()
        running = asyncio.ensure_future(streamed(play, account, began))
        await began.wait()
        status, body = await play.call(account)
        assert (status, STORE in body) == (402, True)
        async with play.client.get(play.proxy.base_url.removesuffix("/api/v1") + "/health") as health:
            assert health.status == 503
        assert len(play.sim.requests) == 1
        assert not running.done()
        over.set()
        assert (await running).endswith(b"data: [DONE]\n\n")
        await closed_and_decided(play, account)


async def test_at_the_generation_id_the_call_is_refused_and_decided_later(tmp_path: Path) -> None:
    scenario, over = first_held()
    async with stage(tmp_path, scenario) as play:
        await play.proxy.start("tests.torture.kill", "id", "before", "2", "full")
        account, began = await play.open("a", "1.00"), asyncio.Event()
        running = asyncio.ensure_future(streamed(play, account, began))
        await began.wait()
        status, body = await play.call(account)
        assert (status, STORE in body) == (402, True)
        assert len(play.sim.requests) == 2
        assert not running.done()
        over.set()
        assert (await running).endswith(b"data: [DONE]\n\n")
        await closed_and_decided(play, account)


@pytest.mark.parametrize("streams", [False, True])
async def test_at_the_posting_the_answer_still_arrives_and_is_booked_later(tmp_path: Path, streams: bool) -> None:
    async with stage(tmp_path) as play:
        await play.proxy.start("tests.torture.kill", "post", "before", "1", "full")
        account = await play.open("a", "1.00")
        status, body = await play.call(account, "[[sim tokens=60]]", stream=streams)
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n" if streams else b"}")
        assert STORE not in body
        await closed_and_decided(play, account)
