"""Output items of `/responses`, on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def test_the_items_of_the_events_are_those_of_the_finished_response(caller: Caller) -> None:
    body = {"model": "openai/gpt-5-mini", "input": "[[sim reasoning=5 text='hello']]", "stream": True}
    events = (await caller.call("/responses", body)).events[:-1]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    assert [item["type"] for item in done] == ["reasoning", "message"]
