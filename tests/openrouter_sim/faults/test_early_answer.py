"""Answers before the body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, make_fault

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


async def test_nothing_is_charged_and_the_answer_is_an_envelope(caller: Caller) -> None:
    caller.suffer("early_answer", status=429)
    answer = await caller.chat()
    assert (answer.status, answer.json["error"]["code"]) == (429, 429)
    assert not caller.sim.bill().named("default").generations


async def test_a_connection_can_be_gone_when_the_request_arrives(caller: Caller) -> None:
    caller.suffer("close_on_request")
    with pytest.raises(aiohttp.ClientError):
        await caller.chat()
    assert not caller.sim.bill().named("default").generations


async def test_management_suffers_only_where_a_rule_names_it(caller: Caller) -> None:
    rule = FaultRule(make_fault("early_answer", {"status": 500, "retry_after": "2"}), api="DELETE keys")
    caller.sim.scenario = Scenario(faults=(rule,))
    _, key_hash = await caller.new_key(1)
    refused = await caller.admin(f"/keys/{key_hash}", method="DELETE")
    assert (refused.status, refused.headers["Retry-After"]) == (500, "2")
    assert (await caller.admin(f"/keys/{key_hash}")).status == 200
    caller.suffer("early_answer")
    assert (await caller.admin(f"/keys/{key_hash}", method="DELETE")).status == 200
