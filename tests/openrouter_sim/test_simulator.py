"""The simulator as a whole."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from openrouter_sim import Simulator

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller
    from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire


async def test_it_has_keys_of_the_real_form(sim: Simulator) -> None:
    for key in (sim.admin_key, sim.inference_key):
        assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", key)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/v1", sim.base_url)


async def test_an_unknown_path_is_refused_in_the_envelope(caller: Caller) -> None:
    refused = await caller.call("/nope")
    assert (refused.status, refused.json["error"]["code"]) == (404, 404)
    assert (await caller.call("/models", method="DELETE")).status == 405


async def test_a_seed_repeats_a_run(clock: FakeClock) -> None:
    async def run() -> list[Any]:
        async with Simulator(clock=clock.epoch_s, seed=7) as sim, aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {sim.inference_key}"}
            body = {"model": "qwen/qwen3-coder", "messages": [{"role": "user", "content": "hi"}]}
            for _ in range(20):
                async with session.post(f"{sim.base_url}/chat/completions", json=body, headers=headers) as answer:
                    await answer.read()
            return [generation.to_json() for generation in sim.bill().named("default").generations]

    assert await run() == await run()


async def test_it_remembers_the_last_ten_thousand_requests(sim: Simulator) -> None:
    request = make_mocked_request("POST", "/api/v1/chat/completions")
    for i in range(10_002):
        sim.note(request, str(i).encode())
    assert len(sim.requests) == 10_000
    assert sim.requests[0].body == b"2"


async def test_its_bill_is_the_sum_of_what_it_told(caller: Caller) -> None:
    told = Decimal(0)
    for stream in (False, True):
        for model in ("openai/gpt-4.1-mini", "anthropic/claude-sonnet-4.5", "mistralai/mistral-small-3.2-24b-instruct"):
            answer = await caller.chat(model=model, provider={}, stream=stream)
            told += (answer.events[-2] if stream else answer.json)["usage"]["cost"]
    assert caller.sim.bill().total_usd == told


async def test_odd_requests_are_refused_and_never_break_it(caller: Caller) -> None:
    async with caller.session.get(f"{caller.sim.base_url}/key", headers={"Authorization": "Bearer ÿ"}) as answer:
        assert answer.status == 401
    bodies: list[tuple[str, Any]] = [
        ("/messages", {"model": "anthropic/claude-haiku-4.5", "messages": [{"role": "user"}]}),
        ("/embeddings", {"model": "openai/text-embedding-3-small", "input": "x", "dimensions": "many"}),
        ("/chat/completions", {"model": 5, "messages": [{"role": "user", "content": "x"}]}),
        ("/chat/completions", {"model": "openai/gpt-4.1-nano", "max_tokens": 10**30, "messages": [{"role": "user"}]}),
    ]
    assert [(await caller.call(path, body)).status for path, body in bodies] == [200, 400, 400, 404]
    assert (await caller.admin("/keys?offset=x")).status == 400
