"""Redirects."""

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


async def test_the_client_is_sent_elsewhere(caller: Caller) -> None:
    caller.suffer("redirect", location="http://127.0.0.1:9/x")
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}]}
    answer = await caller.call("/chat/completions", body, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:9/x")
    assert not caller.sim.bill().named("default").generations
