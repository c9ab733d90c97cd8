"""The limit rules, on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from openrouter_sim import Scenario, Simulator

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller
    from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.wire


async def spend(caller: Caller, key: str, tokens: int) -> Answer:
    return await caller.chat(f"[[sim tokens={tokens}]]", key=key, max_tokens=tokens)


async def test_a_limit_is_soft_and_checked_against_settled_spend(caller: Caller) -> None:
    key, key_hash = await caller.new_key(Decimal("0.0000975"))
    assert (await spend(caller, key, 200)).status == 200
    assert (await spend(caller, key, 40)).status == 200
    refused = await spend(caller, key, 40)
    assert refused.status == 403
    assert refused.json["error"]["message"].startswith("Key limit exceeded (total limit): $0")
    assert refused.json["error"]["metadata"]["limit_source"] == "openrouter_key_limit"
    assert caller.sim.bill().keys[key_hash].total_usd > Decimal("0.0000975")


async def test_a_bound_that_is_too_dear_is_a_402_that_says_what_is_affordable(caller: Caller) -> None:
    key, _ = await caller.new_key(Decimal("0.0004"))
    refused = await spend(caller, key, 1001)
    assert refused.status == 402
    assert "You requested up to 1001 tokens, but can only afford 1000." in refused.json["error"]["message"]
    assert "create a key with a higher total limit" in refused.json["error"]["message"]
    assert (await spend(caller, key, 1000)).status == 200


async def test_without_bound_the_endpoints_longest_completion_counts(caller: Caller) -> None:
    key, _ = await caller.new_key(Decimal("0.01"))
    refused = await caller.chat(key=key)
    assert refused.status == 402
    assert "up to 32768 tokens" in refused.json["error"]["message"]


async def test_a_prompt_alone_can_exceed_the_limit(caller: Caller) -> None:
    key, _ = await caller.new_key(Decimal("0.0001"))
    refused = await caller.chat("x" * 8000, key=key, max_tokens=1)
    assert refused.status == 402
    assert refused.json["error"]["message"].startswith("Prompt tokens limit exceeded: 2006 > 1000.")
    exact, _ = await caller.new_key(Decimal("0.0002006"))
    assert (await caller.chat("x" * 8000, key=exact, max_tokens=1)).status == 200


async def test_settled_spend_that_lags_lets_more_calls_through(caller: Caller, clock: FakeClock) -> None:
    caller.sim.scenario = Scenario(key_usage_lag_s=30)
    key, _ = await caller.new_key(Decimal("0.0001"))
    assert [(await spend(caller, key, 240)).status for _ in range(3)] == [200, 200, 200]
    clock.advance(30)
    assert (await spend(caller, key, 240)).status == 403


async def test_an_account_without_credit_pays_nothing(clock: FakeClock) -> None:
    async with Simulator(clock=clock.epoch_s, credits_usd=Decimal(0)) as sim, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {sim.inference_key}"}
        body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}]}
        async with session.post(f"{sim.base_url}/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 402
            assert (await answer.json())["error"]["metadata"]["limit_source"] == "openrouter_credits"
        body["model"] = "meta-llama/llama-3.3-70b-instruct:free"
        async with session.post(f"{sim.base_url}/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200


async def test_an_account_in_debt_is_refused_free_models_too(caller: Caller) -> None:
    caller.sim.account.credits_usd = Decimal("-0.01")
    refused = await caller.chat(model="meta-llama/llama-3.3-70b-instruct:free", provider=None)
    assert refused.status == 402


async def test_a_key_with_limit_zero_may_use_free_models_only(caller: Caller) -> None:
    key, _ = await caller.new_key(0)
    assert (await spend(caller, key, 10)).status == 403
    free = await caller.chat(key=key, model="meta-llama/llama-3.3-70b-instruct:free", provider=None)
    assert free.json["usage"]["cost"] == 0


async def test_a_window_that_resets_frees_the_key(caller: Caller, clock: FakeClock) -> None:
    key, _ = await caller.new_key(Decimal("0.00001"), limit_reset="daily")
    await spend(caller, key, 20)
    await spend(caller, key, 20)
    assert "daily limit" in (await spend(caller, key, 20)).json["error"]["message"]
    clock.advance(86400)
    assert (await spend(caller, key, 20)).status == 200


async def test_disabled_expired_deleted_and_unknown_keys_are_refused(caller: Caller, clock: FakeClock) -> None:
    disabled, disabled_hash = await caller.new_key(None)
    await caller.admin(f"/keys/{disabled_hash}", {"disabled": True}, "PATCH")
    deleted, deleted_hash = await caller.new_key(None)
    await caller.admin(f"/keys/{deleted_hash}", method="DELETE")
    expired, _ = await caller.new_key(None, expires_at="2025-10-09T12:00:00Z")
    assert (await caller.chat(key=expired)).status == 200
    clock.advance(datetime(2025, 10, 9, 12, tzinfo=UTC).timestamp() - clock.epoch_s())
    for key in (disabled, deleted, expired, "sk-or-v1-unknown"):
        assert (await caller.chat(key=key)).status == 401
    async with caller.session.get(f"{caller.sim.base_url}/key") as answer:
        assert answer.status == 401


async def test_management_keys_manage_and_others_do_not(caller: Caller) -> None:
    assert (await caller.chat(key=caller.sim.admin_key)).status == 403
    refused = await caller.call("/keys")
    assert refused.status == 403
    assert refused.json["error"]["message"] == "Only management keys can perform this operation"
    assert (await caller.call("/credits")).status == 403
