"""A call is charged once, on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim import Fault, FaultRule, Rule, Scenario
from openrouter_sim.calls.call import Frame, SimCall, event

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller


@pytest.mark.wire
async def test_a_stream_is_charged_once_however_often_it_is_settled(caller: Caller) -> None:
    answer = await caller.chat(stream=True)
    (generation,) = caller.sim.bill().named("default").generations
    assert generation.cost_usd == answer.events[-2]["usage"]["cost"]
    assert generation.outcome == "finished"


@pytest.mark.wire
async def test_the_cache_discount_is_what_was_saved_and_negative_for_writes(caller: Caller) -> None:
    mark = {"type": "ephemeral"}
    content = [{"type": "text", "text": "x" * 8000, "cache_control": mark}]
    fields: dict[str, Any] = {"model": "anthropic/claude-sonnet-4.5", "provider": {"only": ["anthropic"]}}
    for expected in (-1, 1):
        answer = await caller.chat(messages=[{"role": "user", "content": content}], **fields)
        found = (await caller.call(f"/generation?id={answer.json['id']}")).json["data"]
        assert found["cache_discount"] * expected > 0


def test_an_event_has_its_name_where_it_has_one() -> None:
    assert event({"a": 1}) == b'data: {"a":1}\n\n'
    assert event({"a": 1}, "x") == b'event: x\ndata: {"a":1}\n\n'


@pytest.mark.wire
async def test_tokens_are_spread_so_that_the_last_delta_has_them_all(caller: Caller) -> None:
    class Recorder(Fault, frozen=True):
        def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
            for frame in frames:
                seen.append((frame.tokens, frame.settles))
                yield frame

    seen: list[tuple[int, bool]] = []
    text = "x" * 4 * 32  # four deltas of eight tokens
    caller.sim.scenario = Scenario(replies=(Rule(text=text, tokens=10),), faults=(FaultRule(Recorder()),), comments=0)
    await caller.chat(stream=True)
    assert seen == [(2, False), (5, False), (7, False), (10, False), (10, False), (10, True), (10, False)]
