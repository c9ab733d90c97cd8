"""Bounds that are not honoured."""

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


async def test_the_completion_is_longer_than_asked_and_billed(caller: Caller) -> None:
    caller.suffer("wrong_bound", factor=4)
    usage = (await caller.chat("[[sim tokens=500]]", max_tokens=20)).json["usage"]
    assert usage["completion_tokens"] == 80
    assert usage["cost"] == billed(caller).cost_usd
    caller.suffer("wrong_bound", tokens=300)
    assert (await caller.chat(max_tokens=20)).json["usage"]["completion_tokens"] == 300


async def test_without_bound_there_is_none_to_break(caller: Caller) -> None:
    caller.suffer("wrong_bound")
    assert (await caller.chat("[[sim tokens=30]]")).json["usage"]["completion_tokens"] == 30
