"""Connections that end too early."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("name", ["silent_close", "reset"])
async def test_a_stream_breaks_and_its_tokens_so_far_are_billed(caller: Caller, name: str) -> None:
    caller.suffer(name, after=3)
    answer = await caller.chat("[[sim tokens=100]]", stream=True)
    assert answer.broken
    assert 0 < caller.billed.completion_tokens < 100
    assert caller.billed.outcome == "cancelled"


async def test_a_clean_end_without_done_is_no_broken_connection(caller: Caller) -> None:
    caller.suffer("silent_close", clean=True)
    answer = await caller.chat(stream=True)
    assert not answer.broken
    assert "[DONE]" not in answer.events


async def test_a_whole_body_breaks_in_its_middle_and_is_billed_in_full(caller: Caller) -> None:
    caller.suffer("silent_close")
    answer = await caller.chat("[[sim tokens=100]]")
    assert answer.broken
    assert caller.billed.completion_tokens == 100


async def test_a_reset_can_come_right_after_the_headers(caller: Caller) -> None:
    caller.suffer("reset", after=0)
    with contextlib.suppress(aiohttp.ClientError):
        assert (await caller.chat()).broken
    assert caller.billed.cost_usd > 0


async def test_the_answer_is_whole_and_promises_more(caller: Caller) -> None:
    caller.suffer("close_keepalive")
    answer = await caller.chat()
    assert not answer.broken
    assert answer.headers.get("Connection") != "close"
    assert answer.json["usage"]["cost"] == caller.billed.cost_usd


async def test_a_connection_can_be_gone_when_the_request_arrives(caller: Caller) -> None:
    caller.suffer("close_on_request")
    with pytest.raises(aiohttp.ClientError):
        await caller.chat()
    assert not caller.sim.bill().named("default").generations
