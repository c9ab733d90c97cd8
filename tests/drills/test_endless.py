"""Readers that do not read and streams that do not end: the call ends, and nothing else suffers (M17)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from tests.drills.fast_time import MINUTE_S, play
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import World, chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]  # half an hour of fast time is longer where others run too

DRIP = Scenario(faults=(FaultRule(make_fault("comment_drip", {"every_s": 20.0}), times=1),))
HUGE = Scenario(faults=(FaultRule(make_fault("huge_event", {"size_bytes": 32 * 2**20}), times=1),))


@contextlib.asynccontextmanager
async def world(data: Path, scenario: Scenario, clock: FakeClock) -> AsyncIterator[World]:
    """Accounts `a` and `b` on fast time."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with Simulator(scenario) as sim, aiohttp.ClientSession(timeout=timeout) as client:
        config = Config(data=str(data), upstream=sim.base_url, listen="127.0.0.1:0")
        async with running(config, clock) as proxy:
            made = World(sim, proxy, client, data)
            await made.open("a")
            await made.open("b")
            yield made


async def other_calls_are_served(world: World) -> None:
    """Those of the same account, and of another."""
    for name in ("a", "b"):
        async with world.post(token=world.tokens[name]) as response:
            assert response.status == 200
            await response.read()


async def decided(world: World) -> None:
    """Nothing of the account is in flight or pending any more, and it holds what was billed."""
    await world.settled(within_s=40 * MINUTE_S)
    assert not world.proxy.ledger.account_state("a").running
    assert world.posted_usd() == world.billed_usd()


def test_a_stream_of_comments_alone_ends_half_an_hour_after_it_began(tmp_path: Path) -> None:
    """Its client hears so in an error event."""

    async def drill(clock: FakeClock) -> None:
        async with world(tmp_path, DRIP, clock) as made:
            began_s = asyncio.get_running_loop().time()
            async with made.post(stream=True) as response:
                await other_calls_are_served(made)
                raw = await response.read()
            assert asyncio.get_running_loop().time() - began_s >= 29 * MINUTE_S
            assert raw.count(b": OPENROUTER PROCESSING") > 20
            assert b'"error":{' in raw
            assert raw.endswith(b"data: [DONE]\n\n")
            await decided(made)

    play(drill)


def test_a_stream_of_comments_is_drained_for_a_minute_once_its_client_left(tmp_path: Path) -> None:
    async def drill(clock: FakeClock) -> None:
        async with world(tmp_path, DRIP, clock) as made:
            began_s = asyncio.get_running_loop().time()
            async with made.post(stream=True) as response:
                await response.content.readany()
                response.close()
            await other_calls_are_served(made)
            await decided(made)
            assert (
                asyncio.get_running_loop().time() - began_s < 29 * MINUTE_S
            )  # the half hour of every call did not end it

    play(drill)


def test_a_reader_of_one_byte_a_minute_is_given_up_once_it_is_far_behind(tmp_path: Path) -> None:
    async def drill(clock: FakeClock) -> None:
        async with world(tmp_path, HUGE, clock) as made:
            to = urlsplit(made.base_url)
            reader, writer = await asyncio.open_connection(to.hostname, to.port, limit=1)
            body = json.dumps(chat(stream=True)).encode()
            head = (
                f"POST {to.path}/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.tokens['a']}\r\n"
            )
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            dripping = asyncio.ensure_future(drip(reader))
            await made.sim.until(lambda: len(made.sim.requests) == 1)
            await other_calls_are_served(made)
            await decided(made)
            dripping.cancel()
            writer.transport.abort()

    play(drill)


async def drip(reader: asyncio.StreamReader) -> None:
    """Read one byte a minute for ever."""
    while await reader.read(1):
        await asyncio.sleep(MINUTE_S)
