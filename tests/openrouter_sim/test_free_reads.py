"""Free reads, on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from openrouter_sim import Scenario

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller
    from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire


async def test_models_are_listed_by_output(caller: Caller) -> None:
    text = (await caller.call("/models")).json
    assert text["total_count"] == len(text["data"]) >= 10
    every = (await caller.call("/models?output_modalities=all")).json
    assert every["total_count"] > text["total_count"]
    assert (await caller.call("/models/count")).json["data"]["count"] == text["total_count"]
    embedding = (await caller.call("/embeddings/models")).json["data"]
    assert [model["id"] for model in embedding] == ["openai/text-embedding-3-small"]


async def test_endpoints_are_shown_by_id_and_by_canonical_slug(caller: Caller) -> None:
    for name in ("anthropic/claude-sonnet-4.5", "anthropic/claude-4.5-sonnet-20250929"):
        shown = (await caller.call(f"/models/{name}/endpoints")).json["data"]
        assert shown["id"] == "anthropic/claude-sonnet-4.5"
        assert [e["tag"] for e in shown["endpoints"]] == ["anthropic", "google-vertex", "amazon-bedrock"]
    assert (await caller.call("/models/no/such/endpoints")).status == 404


async def test_a_key_reads_its_own_counters(caller: Caller) -> None:
    key, _ = await caller.new_key(1, limit_reset="monthly")
    await caller.chat("[[sim tokens=100]]", key=key, max_tokens=100)
    for path in ("/key", "/auth/key"):
        data = (await caller.call(path, key=key)).json["data"]
        assert data["usage"] == data["usage_daily"] == caller.sim.bill().total_usd
        assert data["limit_remaining"] == 1 - data["usage"] == data["effective_budget"]["remaining_usd"]
        assert "hash" not in data
    assert (await caller.call("/key")).json["data"]["effective_budget"] is None


async def test_a_generation_resolves_after_its_delay_and_for_its_key_only(caller: Caller, clock: FakeClock) -> None:
    caller.sim.scenario = Scenario(generation_delay_s=20)
    other, _ = await caller.new_key(1)
    answer = (await caller.chat("[[sim tokens=100 reasoning=10]]")).json
    path = f"/generation?id={answer['id']}"
    assert (await caller.call(path)).status == 404
    clock.advance(20)
    data = (await caller.call(path)).json["data"]
    assert data["total_cost"] == data["usage"] == answer["usage"]["cost"]
    assert (data["native_tokens_completion"], data["native_tokens_reasoning"]) == (100, 10)
    assert data["provider_name"] == "OpenAI"
    assert (await caller.call(path, key=other)).status == 404
    assert (await caller.call("/generation")).status == 404


async def test_the_bill_needs_no_key(caller: Caller) -> None:
    answer = (await caller.chat()).json
    root = caller.sim.base_url.removesuffix("/api/v1")
    async with caller.session.get(f"{root}/sim/bill") as got:
        bill = await got.json()
    default = next(iter(bill["keys"].values()))
    assert default["generations"][0]["id"] == answer["id"]
    assert Decimal(bill["total_usd"]) == answer["usage"]["cost"] == Decimal(default["total_usd"])
    async with caller.session.get(f"{root}/sim/bill?summary=1") as got:
        assert "generations" not in next(iter((await got.json())["keys"].values()))


async def test_strikes_are_counted_by_name(caller: Caller) -> None:
    await caller.chat("[[sim fault=repr_float]]")
    async with caller.session.get(f"{caller.sim.base_url.removesuffix('/api/v1')}/sim/faults") as got:
        assert await got.json() == {"repr_float": 1}
