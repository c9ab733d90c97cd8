"""Blanks ahead of a body."""

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


async def test_blanks_come_first_and_streams_have_none(caller: Caller) -> None:
    caller.suffer("whitespace", lines=2)
    answer = await caller.chat()
    assert answer.body.startswith(b"         \n         \n{")
    assert answer.json["usage"]["cost"] == billed(caller).cost_usd
    assert (await caller.chat(stream=True)).body.startswith(b": OPENROUTER")
