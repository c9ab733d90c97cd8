"""Answers whose bytes are cut, packed, padded, or hold the key of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("stream", [False, True])
async def test_the_bytes_are_the_same_however_they_are_cut(caller: Caller, stream: bool) -> None:
    caller.suffer("chop", size_bytes=3)
    answer = await caller.chat("[[sim text='schöne Grüße']]", stream=stream)
    assert "schöne Grüße" in answer.body.decode()
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == caller.billed.cost_usd


async def test_a_cut_still_comes_after_the_pieces(caller: Caller) -> None:
    rules = (FaultRule(make_fault("silent_close")), FaultRule(make_fault("chop")))
    caller.sim.scenario = Scenario(faults=rules)
    assert (await caller.chat(stream=True)).broken


@pytest.mark.parametrize("stream", [False, True])
async def test_the_body_is_gzip(caller: Caller, stream: bool) -> None:
    caller.suffer("gzip")
    answer = await caller.chat(stream=stream)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert (answer.events[-2] if stream else answer.json)["usage"]["cost"] == caller.billed.cost_usd


async def test_blanks_come_first_and_streams_have_none(caller: Caller) -> None:
    caller.suffer("whitespace", lines=2)
    answer = await caller.chat()
    assert answer.body.startswith(b"         \n         \n{")
    assert answer.json["usage"]["cost"] == caller.billed.cost_usd
    assert (await caller.chat(stream=True)).body.startswith(b": OPENROUTER")


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
