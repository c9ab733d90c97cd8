"""Connections that were to be kept."""

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


async def test_the_answer_is_whole_and_promises_more(caller: Caller) -> None:
    caller.suffer("close_keepalive")
    answer = await caller.chat()
    assert not answer.broken
    assert answer.headers.get("Connection") != "close"
    assert answer.json["usage"]["cost"] == billed(caller).cost_usd
