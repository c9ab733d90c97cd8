"""Upstream's records of generations and keys."""

from __future__ import annotations

import pytest

from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import UpstreamError
from preflight_proxy.records import read_generation, read_key_usage_pusd
from preflight_proxy.upstream import Upstream
from tests.preflight_proxy.world import World

pytestmark = pytest.mark.wire


async def test_a_generation_tells_what_the_answer_told(world: World) -> None:
    async with world.post() as response:
        body = await response.json()
    key = world.proxy.books.live("a").key
    assert key is not None
    async with Upstream(world.sim.base_url) as upstream:
        told = await read_generation(upstream, key, body["id"])
        used_pusd = await read_key_usage_pusd(upstream, key)
    assert told is not None
    cost_pusd, facts = told
    assert cost_pusd == used_pusd == world.proxy.books.account("a").posted_pusd
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
