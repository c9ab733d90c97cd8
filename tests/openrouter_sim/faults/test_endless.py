"""Streams without end."""

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


async def read_until(caller: Caller, text: bytes, count: int) -> None:
    body = {
        "model": "openai/gpt-4.1-nano",
        "stream": True,
        "messages": [{"role": "user", "content": "[[sim tokens=50]]"}],
    }
    headers = {"Authorization": f"Bearer {caller.sim.inference_key}"}
    answer = await caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body, headers=headers)
    seen = 0
    while seen < count:
        seen += text in await answer.content.readline()
    answer.close()
    await caller.sim.until(lambda: bool(caller.sim.bill().named("default").generations))


async def test_comments_drip_until_the_client_leaves(caller: Caller) -> None:
    caller.suffer("comment_drip", every_s=0.001)
    await read_until(caller, b": OPENROUTER", 20)
    assert billed(caller).outcome == "cancelled"


async def test_empty_deltas_follow_the_last_and_cost_nothing_more(caller: Caller) -> None:
    caller.suffer("never_ends", every_s=0.001)
    await read_until(caller, b'"content":""', 20)
    assert billed(caller).completion_tokens == 50


async def test_whole_bodies_are_left_alone(caller: Caller) -> None:
    for name in ("comment_drip", "never_ends"):
        caller.suffer(name)
        assert (await caller.chat()).json["usage"]["cost"] > 0
