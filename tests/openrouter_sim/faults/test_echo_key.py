"""A secret repeated."""

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


async def test_the_key_is_in_body_and_header(caller: Caller) -> None:
    caller.suffer("echo_key")
    answer = await caller.chat()
    assert answer.status == 400
    assert caller.sim.inference_key in answer.body.decode()
    assert caller.sim.inference_key in answer.headers["X-Debug-Authorization"]


async def test_the_key_is_in_an_answer_that_is_served(caller: Caller) -> None:
    caller.suffer("echo_key", status=200, escaped=True)
    answer = await caller.chat()
    assert answer.json["echo"] == f"Bearer {caller.sim.inference_key}"
    assert caller.sim.inference_key not in answer.body.decode()
    assert "\\u00" in answer.body.decode()
