"""Upstream's records of generations and keys."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from aiohttp import ClientSession

from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.evidence_reads import read_generation, read_key, read_key_usage_pusd
from tests.support.proxy_world import World, chat
from tests.support.raw_upstream import RawUpstream

pytestmark = pytest.mark.wire


async def test_a_generation_tells_what_the_answer_told(world: World) -> None:
    async with world.post() as response:
        body = await response.json()
    key = world.proxy.ledger.account_state("a").key
    assert key is not None
    async with Upstream(world.sim.base_url) as upstream:
        told = await read_generation(upstream, key, body["id"])
        used_pusd = await read_key_usage_pusd(upstream, key)
    assert told is not None
    cost_pusd, facts = told
    assert cost_pusd == used_pusd == world.proxy.ledger.account("a").posted_pusd
    assert facts.prompt_tokens == body["usage"]["prompt_tokens"]
    assert facts.generation_id == body["id"]


async def test_a_generation_that_is_not_there_yet_tells_nothing() -> None:
    async with Simulator() as sim, Upstream(sim.base_url) as upstream:
        assert await read_generation(upstream, Secret(sim.inference_key), "gen-1-none") is None


async def test_a_key_nobody_knows_is_an_error_and_not_zero() -> None:
    async with Simulator() as sim, Upstream(sim.base_url) as upstream:
        with pytest.raises(UpstreamError):
            await read_key_usage_pusd(upstream, Secret("sk-or-v1-" + "0" * 64))


async def test_an_upstream_in_trouble_tells_nothing() -> None:
    fault = FaultRule(make_fault("early_answer", {"status": 503}), api="generation")
    async with Simulator(Scenario(faults=(fault,))) as sim, Upstream(sim.base_url) as upstream:
        assert await read_generation(upstream, Secret(sim.inference_key), "gen-1-x") is None


async def test_what_a_provider_key_of_the_users_own_was_billed_counts_as_used() -> None:
    """It stands beside `usage` (M16)."""
    fault = FaultRule(make_fault("byok", {"fee": "0.05"}))
    async with Simulator(Scenario(faults=(fault,))) as sim, Upstream(sim.base_url) as upstream:
        headers = {"Authorization": f"Bearer {sim.inference_key}"}
        async with (
            ClientSession() as client,
            client.post(sim.base_url + "/chat/completions", json=chat(), headers=headers) as answer,
        ):
            usage = (await answer.json())["usage"]
        told = Decimal(str(usage["cost"])) + Decimal(str(usage["cost_details"]["upstream_inference_cost"]))
        assert await read_key_usage_pusd(upstream, Secret(sim.inference_key)) == told.scaleb(12)


async def test_a_key_whose_usage_cannot_be_read_whole_is_an_error() -> None:
    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        body = b'{"data":{"usage":0.1,"byok_usage":"much"}}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UpstreamError):
            await read_key_usage_pusd(upstream, Secret("sk-or-v1-x"))


@pytest.mark.parametrize(
    ("told", "left_pusd", "reset"),
    [
        (b'{"usage":1,"limit_remaining":0.25,"limit_reset":"daily"}', 250_000_000_000, "daily"),
        (b'{"usage":1,"limit_remaining":-0.25,"limit_reset":"monthly"}', 0, "monthly"),
        (b'{"usage":1,"limit_remaining":null,"limit_reset":null}', None, None),
        (b'{"usage":1}', None, None),
        (b'{"usage":1,"limit_remaining":"much","limit_reset":"hourly"}', None, None),
        (b'{"usage":1,"limit_remaining":[],"limit_reset":["daily"]}', None, None),
    ],
)
async def test_what_a_keys_limit_leaves_is_told_where_it_is_a_figure(
    told: bytes, left_pusd: int | None, reset: str | None
) -> None:
    """Overshot it leaves nothing."""

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        body = b'{"data":' + told + b"}"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        record = await read_key(upstream, Secret("sk-or-v1-x"))
    assert (record.left_pusd, record.limit_reset) == (left_pusd, reset)
