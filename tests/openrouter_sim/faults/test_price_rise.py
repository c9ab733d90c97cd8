"""Prices that are not listed."""

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


async def test_more_is_charged_than_listed(caller: Caller) -> None:
    fair = (await caller.chat("[[sim tokens=100]]")).json["usage"]["cost"]
    caller.suffer("price_rise", factor=2)
    assert (await caller.chat("[[sim tokens=100]]")).json["usage"]["cost"] == 2 * fair


async def test_an_endpoint_serves_that_nobody_listed(caller: Caller) -> None:
    caller.suffer("extra_endpoint", factor=3)
    usage = (await caller.chat("[[sim tokens=100]]", provider={})).json
    assert usage["provider"] == "Newcomer"
    assert billed(caller).tag == "newcomer"
    assert usage["usage"]["cost"] == 3 * (10 * Decimal("1e-7") + 100 * Decimal("4e-7"))
    listed = (await caller.call("/models/openai/gpt-4.1-nano/endpoints")).json["data"]["endpoints"]
    assert "newcomer" not in [endpoint["tag"] for endpoint in listed]
