"""Compressed answers."""

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


@pytest.mark.parametrize("stream", [False, True])
async def test_the_body_is_gzip(caller: Caller, stream: bool) -> None:
    caller.suffer("gzip")
    answer = await caller.chat(stream=stream)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == billed(caller).cost_usd
