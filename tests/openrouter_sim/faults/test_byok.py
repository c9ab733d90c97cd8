"""The caller's own provider key."""

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


async def test_only_the_fee_is_charged_and_the_providers_bill_is_told(caller: Caller) -> None:
    caller.suffer("byok", fee=Decimal("0.05"))
    usage = (await caller.chat("[[sim tokens=100]]")).json["usage"]
    assert usage["is_byok"] is True
    assert (
        usage["cost"] == usage["cost_details"]["upstream_inference_cost"] * Decimal("0.05") == billed(caller).cost_usd
    )
    data = (await caller.call("/key")).json["data"]
    assert data["byok_usage"] == usage["cost_details"]["upstream_inference_cost"]
