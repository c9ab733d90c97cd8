"""Refusals for money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def test_a_size_that_is_not_affordable_is_refused_with_the_one_that_is(caller: Caller) -> None:
    caller.suffer("no_money", cause="affords", tokens=1200)
    answer = await caller.chat(max_tokens=32000)
    assert answer.status == 402
    assert "requested up to 32000 tokens, but can only afford 1200. To increase" in answer.json["error"]["message"]
    assert answer.json["error"]["metadata"]["limit_source"] == "openrouter_credits"
    assert (await caller.chat(max_tokens=1200)).status == 200


async def test_a_spent_key_is_refused_whatever_the_size(caller: Caller) -> None:
    caller.suffer("no_money", cause="key_limit")
    answer = await caller.chat(max_tokens=16)
    assert answer.status == 403
    assert answer.json["error"]["message"].startswith("Key limit exceeded (daily limit)")
