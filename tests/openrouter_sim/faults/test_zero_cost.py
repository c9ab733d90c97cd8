"""Zero-completion insurance."""

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


async def test_tokens_are_told_and_nothing_is_charged(caller: Caller) -> None:
    caller.suffer("zero_cost_with_tokens")
    usage = (await caller.chat()).json["usage"]
    assert usage["completion_tokens"] > 0
    assert usage["cost"] == 0 == billed(caller).cost_usd
