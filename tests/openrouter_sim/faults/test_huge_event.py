"""A very large event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


async def test_it_comes_before_the_usage(caller: Caller) -> None:
    caller.suffer("huge_event", size_bytes=200_000)
    events = (await caller.chat(stream=True)).events
    assert len(events[-3]["padding"]) == 200_000
    assert events[-2]["usage"]["cost"] == billed(caller).cost_usd
    assert (await caller.chat()).json["usage"]["cost"] > 0
