"""Errors in place of completions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openrouter_sim import SimGeneration
    from tests.openrouter_sim.conftest import Caller


pytestmark = pytest.mark.wire


def billed(caller: Caller) -> SimGeneration:
    (generation,) = caller.sim.bill().named("default").generations
    return generation


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
    assert (billed(caller).completion_tokens, billed(caller).outcome) == (100, "error")
    assert billed(caller).cost_usd > Decimal("0.00004")
    assert (await caller.call(f"/generation?id={answer.headers['X-Generation-Id']}")).status == 200
