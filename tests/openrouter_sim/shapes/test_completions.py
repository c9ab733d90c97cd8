"""Legacy completions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller

pytestmark = pytest.mark.wire


async def complete(caller: Caller, **fields: Any) -> Answer:
    return await caller.call("/completions", {"model": "openai/gpt-4.1-nano", "prompt": "abcdefgh", **fields})


async def test_text_comes_back_with_chats_usage(caller: Caller) -> None:
    answer = (await complete(caller, max_tokens=5, provider={"only": ["openai"]})).json
    assert answer["choices"][0]["text"]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (2, 5)
    assert answer["usage"]["cost"] == Decimal("0.0000022") == caller.sim.bill().total_usd


async def test_streams_end_in_usage_and_done(caller: Caller) -> None:
    events = (await complete(caller, stream=True)).events
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"]["cost"] == caller.sim.bill().total_usd


async def test_an_error_ends_a_stream(caller: Caller) -> None:
    for form in ({}, {"bare": True}, {"choice_only": True}):
        caller.suffer("error_mid", after=2, **form)
        assert "error" in str((await complete(caller, stream=True)).events[-1])
    caller.suffer("never_ends")
    assert (await complete(caller, prompt=5)).status == 400
