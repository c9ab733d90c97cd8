"""A call is charged once, on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def test_a_stream_is_charged_once_however_often_it_is_settled(caller: Caller) -> None:
    answer = await caller.chat(stream=True)
    (generation,) = caller.sim.bill().named("default").generations
    assert generation.cost_usd == answer.events[-2]["usage"]["cost"]
    assert generation.outcome == "finished"


async def test_the_cache_discount_is_what_was_saved_and_negative_for_writes(caller: Caller) -> None:
    mark = {"type": "ephemeral"}
    content = [{"type": "text", "text": "x" * 8000, "cache_control": mark}]
    fields: dict[str, Any] = {"model": "anthropic/claude-sonnet-4.5", "provider": {"only": ["anthropic"]}}
    for expected in (-1, 1):
        answer = await caller.chat(messages=[{"role": "user", "content": content}], **fields)
        found = (await caller.call(f"/generation?id={answer.json['id']}")).json["data"]
        assert found["cache_discount"] * expected > 0
