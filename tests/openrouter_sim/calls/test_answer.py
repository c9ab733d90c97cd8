"""Pace, cuts and what they cost, on the wire."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from openrouter_sim import Rule, Scenario

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def leave_after(caller: Caller, model: str, tag: str) -> None:
    """Read a first delta, then hang up, and wait until the call is billed."""
    caller.sim.scenario = Scenario(tokens_per_s=4000, replies=(Rule(tokens=400),))
    body = {
        "model": model,
        "provider": {"only": [tag]},
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    headers = {"Authorization": f"Bearer {caller.sim.inference_key}"}
    answer = await caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body, headers=headers)
    while b"data:" not in await answer.content.readline():
        pass
    answer.close()
    await caller.sim.until(lambda: bool(caller.sim.bill().named("default").generations))


async def test_a_provider_that_stops_bills_what_it_made_until_the_client_left(caller: Caller) -> None:
    await leave_after(caller, "anthropic/claude-haiku-4.5", "anthropic")
    generation = caller.sim.bill().named("default").generations[0]
    assert 0 < generation.completion_tokens < 400
    assert generation.outcome == "cancelled"
    expected = generation.prompt_tokens * Decimal("0.000001") + generation.completion_tokens * Decimal("0.000005")
    assert generation.cost_usd == expected


async def test_another_bills_the_whole_completion(caller: Caller) -> None:
    await leave_after(caller, "anthropic/claude-haiku-4.5", "google-vertex")
    generation = caller.sim.bill().named("default").generations[0]
    assert (generation.completion_tokens, generation.outcome) == (400, "finished")


async def test_an_answer_that_is_no_stream_is_billed_in_full_when_its_client_leaves(caller: Caller) -> None:
    caller.sim.scenario = Scenario(tokens_per_s=4000, replies=(Rule(tokens=400),))
    asking = asyncio.ensure_future(caller.chat())
    await caller.sim.until(lambda: bool(caller.sim.requests))
    asking.cancel()
    await caller.sim.until(lambda: bool(caller.sim.bill().named("default").generations))
    assert caller.sim.bill().named("default").generations[0].completion_tokens == 400


@pytest.mark.parametrize(("tag", "is_whole"), [("anthropic", False), ("google-vertex", True)])
async def test_a_call_in_flight_is_charged_when_the_simulator_stops(caller: Caller, tag: str, is_whole: bool) -> None:
    """In full, unless the provider stops with its client."""
    caller.sim.scenario = Scenario(tokens_per_s=1, replies=(Rule(tokens=400),))
    provider = {"only": [tag]}
    asking = asyncio.ensure_future(caller.chat(model="anthropic/claude-haiku-4.5", provider=provider, stream=True))
    await caller.sim.until(lambda: bool(caller.sim.requests))
    await caller.sim.stop()
    await asyncio.gather(asking, return_exceptions=True)
    assert (caller.billed.completion_tokens == 400) is is_whole


async def test_the_generation_id_comes_with_the_headers_and_is_that_of_the_body(caller: Caller) -> None:
    whole = await caller.chat()
    assert whole.headers["X-Generation-Id"] == whole.json["id"]
    stream = await caller.chat(stream=True)
    assert {event["id"] for event in stream.events[:-1]} == {stream.headers["X-Generation-Id"]}
    assert whole.json["id"].startswith("gen-1760000000-")
    assert len(whole.json["id"]) == len("gen-1760000000-") + 20


async def test_lines_can_end_in_crlf(caller: Caller) -> None:
    caller.sim.scenario = Scenario(crlf=True, comments=2)
    body = (await caller.chat(stream=True)).body
    assert body.startswith(b": OPENROUTER PROCESSING\r\n\r\n" * 2)
    assert body.count(b"\n") == body.count(b"\r\n")
