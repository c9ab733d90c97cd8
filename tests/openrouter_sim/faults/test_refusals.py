"""Calls that are answered with an error."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller
    from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire


async def test_an_error_has_what_it_is_given_and_costs_nothing(caller: Caller) -> None:
    parameters = {"status": 402, "limit_source": "openrouter_in_flight_budget", "reason": "in_flight_budget_exhausted"}
    caller.suffer("http_error", **parameters, retry_after="3", message="Wait.")
    answer = await caller.chat()
    assert answer.status == 402
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["X-Generation-Id"].startswith("gen-")
    assert answer.json["error"]["metadata"] == {
        "error_type": "payment_required",
        "limit_source": "openrouter_in_flight_budget",
        "reason": "in_flight_budget_exhausted",
    }
    assert not caller.sim.bill().named("default").generations


async def test_it_can_be_a_web_servers_page_without_id(caller: Caller) -> None:
    caller.suffer("http_error", status=502, envelope=False, shows_id=False)
    answer = await caller.chat()
    assert answer.body.startswith(b"<html>")
    assert "X-Generation-Id" not in answer.headers


async def test_it_can_cost_all_the_same(caller: Caller) -> None:
    caller.suffer("http_error", status=504, charge=True)
    answer = await caller.chat("[[sim tokens=100]]")
    assert answer.status == 504
    assert (caller.billed.completion_tokens, caller.billed.outcome) == (100, "error")
    assert caller.billed.cost_usd > Decimal("0.00004")
    assert (await caller.call(f"/generation?id={answer.headers['X-Generation-Id']}")).status == 200


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


async def test_the_client_is_sent_elsewhere(caller: Caller) -> None:
    caller.suffer("redirect", location="http://127.0.0.1:9/x")
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}]}
    answer = await caller.call("/chat/completions", body, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:9/x")
    assert not caller.sim.bill().named("default").generations


async def test_the_charge_follows_the_error(caller: Caller, clock: FakeClock) -> None:
    caller.suffer("late_charge", delay_s=5)
    answer = await caller.chat("[[sim tokens=100]]")
    assert answer.status == 504
    assert caller.sim.bill().total_usd == 0
    clock.advance(5)
    assert caller.billed.completion_tokens == 100
    found = await caller.call(f"/generation?id={answer.headers['X-Generation-Id']}")
    assert found.json["data"]["total_cost"] == caller.sim.bill().total_usd > 0


async def test_the_record_of_a_late_charge_is_late_too(caller: Caller, clock: FakeClock) -> None:
    caller.sim.scenario = Scenario(
        faults=(FaultRule(make_fault("late_charge", {"delay_s": 5})),), generation_delay_s=3.0
    )
    answer = await caller.chat()
    path = f"/generation?id={answer.headers['X-Generation-Id']}"
    clock.advance(7)
    assert caller.sim.bill().total_usd > 0
    assert (await caller.call(path)).status == 404
    clock.advance(1)
    assert (await caller.call(path)).status == 200


async def test_nothing_is_charged_and_the_answer_is_an_envelope(caller: Caller) -> None:
    caller.suffer("early_answer", status=429)
    answer = await caller.chat()
    assert (answer.status, answer.json["error"]["code"]) == (429, 429)
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
