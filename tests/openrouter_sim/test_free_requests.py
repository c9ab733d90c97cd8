"""Keys, credits and free reads, on the wire; moments as values."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim import Scenario
from openrouter_sim.base.errors import ApiError
from openrouter_sim.billing.account import hash_of
from openrouter_sim.free_requests import iso, parse_utc
from tests.support.cases import each

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller
    from tests.support.fake_clock import FakeClock


@pytest.mark.wire
async def test_a_key_is_made_shown_changed_and_deleted(caller: Caller) -> None:
    made = await caller.admin("/keys", {"name": "run-17", "limit": 5, "expires_at": "2027-01-31T23:59:59Z", "odd": 1})
    assert made.status == 201
    data = made.json["data"]
    assert made.json["key"].startswith("sk-or-v1-")
    assert (data["limit"], data["limit_remaining"], data["usage"]) == (5, 5, 0)
    assert data["expires_at"] == "2027-01-31T23:59:59Z"
    path = f"/keys/{data['hash']}"
    assert "key" not in (await caller.admin(path)).json
    changed = (await caller.admin(path, {"limit": 7.25, "disabled": True}, "PATCH")).json["data"]
    assert (changed["limit"], changed["disabled"]) == (Decimal("7.25"), True)
    assert (await caller.admin(path, method="DELETE")).json == {"deleted": True}
    assert (await caller.admin(path)).status == 404


@pytest.mark.wire
async def test_keys_are_listed_without_the_deleted_and_by_pages(caller: Caller) -> None:
    for _ in range(101):
        await caller.new_key(1)
    assert len((await caller.admin("/keys")).json["data"]) == 100
    assert len((await caller.admin("/keys?offset=100")).json["data"]) == 2
    await caller.admin(f"/keys/{(await caller.admin('/keys')).json['data'][0]['hash']}", {"disabled": True}, "PATCH")
    listed = (await caller.admin("/keys?offset=100&include_disabled=false")).json["data"]
    assert len(listed) == 1
    await caller.admin(f"/keys/{listed[0]['hash']}", method="DELETE")
    assert (await caller.admin("/keys?offset=100&include_disabled=false")).json["data"] == []


@pytest.mark.wire
async def test_a_management_key_cannot_be_read_or_deleted(caller: Caller) -> None:
    path = f"/keys/{hash_of(caller.sim.admin_key)}"
    assert (await caller.admin(path)).status == 404
    assert (await caller.admin(path, method="DELETE")).status == 404
    assert (await caller.admin("/credits")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "limit": -1},
        {"name": "x", "limit": True},
        {"name": "x", "limit": "5"},
        {"name": "x", "limit_reset": "yearly"},
        {"name": "x", "disabled": 1},
        {"name": "x", "expires_at": "2027-01-31T23:59:59+02:00"},
        [],
    ],
)
@pytest.mark.wire
async def test_what_is_malformed_is_a_400(caller: Caller, body: Any) -> None:
    assert (await caller.admin("/keys", body)).status == 400


@pytest.mark.wire
async def test_an_update_without_fields_is_refused(caller: Caller) -> None:
    _, key_hash = await caller.new_key(1)
    refused = await caller.admin(f"/keys/{key_hash}", {"expires_at": None}, "PATCH")
    assert (refused.status, refused.json["error"]["message"]) == (400, "No update fields provided")


@pytest.mark.wire
async def test_a_body_that_is_no_json_is_refused(caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {caller.sim.admin_key}"}
    async with caller.session.post(f"{caller.sim.base_url}/keys", data=b"{", headers=headers) as answer:
        assert answer.status == 400


@pytest.mark.wire
async def test_credits_show_settled_usage(caller: Caller) -> None:
    await caller.chat("[[sim tokens=1000]]")
    shown = (await caller.admin("/credits")).json["data"]
    assert shown == {"total_credits": 100, "total_usage": caller.sim.bill().total_usd}


@pytest.mark.wire
async def test_models_are_listed_by_output(caller: Caller) -> None:
    text = (await caller.call("/models")).json
    assert text["total_count"] == len(text["data"]) >= 10
    every = (await caller.call("/models?output_modalities=all")).json
    assert every["total_count"] > text["total_count"]
    assert (await caller.call("/models/count")).json["data"]["count"] == text["total_count"]
    embedding = (await caller.call("/embeddings/models")).json["data"]
    assert [model["id"] for model in embedding] == ["openai/text-embedding-3-small"]


@pytest.mark.wire
async def test_endpoints_are_shown_by_id_and_by_canonical_slug(caller: Caller) -> None:
    for name in ("anthropic/claude-sonnet-4.5", "anthropic/claude-4.5-sonnet-20250929"):
        shown = (await caller.call(f"/models/{name}/endpoints")).json["data"]
        assert shown["id"] == "anthropic/claude-sonnet-4.5"
        assert [e["tag"] for e in shown["endpoints"]] == ["anthropic", "google-vertex", "amazon-bedrock"]
    assert (await caller.call("/models/no/such/endpoints")).status == 404


@pytest.mark.wire
async def test_a_key_reads_its_own_counters(caller: Caller) -> None:
    key, _ = await caller.new_key(1, limit_reset="monthly")
    await caller.chat("[[sim tokens=100]]", key=key, max_tokens=100)
    for path in ("/key", "/auth/key"):
        data = (await caller.call(path, key=key)).json["data"]
        assert data["usage"] == data["usage_daily"] == caller.sim.bill().total_usd
        assert data["limit_remaining"] == 1 - data["usage"] == data["effective_budget"]["remaining_usd"]
        assert "hash" not in data
    assert (await caller.call("/key")).json["data"]["effective_budget"] is None


@pytest.mark.wire
async def test_a_generation_resolves_after_its_delay_and_for_its_key_only(caller: Caller, clock: FakeClock) -> None:
    caller.sim.scenario = Scenario(generation_delay_s=20)
    other, _ = await caller.new_key(1)
    answer = (await caller.chat("[[sim tokens=100 reasoning=10]]")).json
    path = f"/generation?id={answer['id']}"
    assert (await caller.call(path)).status == 404
    clock.advance(20)
    data = (await caller.call(path)).json["data"]
    assert data["total_cost"] == data["usage"] == answer["usage"]["cost"]
    assert (data["native_tokens_completion"], data["native_tokens_reasoning"]) == (100, 10)
    assert data["provider_name"] == "OpenAI"
    assert (await caller.call(path, key=other)).status == 404
    assert (await caller.call("/generation")).status == 404


@pytest.mark.wire
async def test_the_bill_needs_no_key(caller: Caller) -> None:
    answer = (await caller.chat()).json
    root = caller.sim.base_url.removesuffix("/api/v1")
    async with caller.session.get(f"{root}/sim/bill") as got:
        bill = await got.json()
    default = next(iter(bill["keys"].values()))
    assert default["generations"][0]["id"] == answer["id"]
    assert Decimal(bill["total_usd"]) == answer["usage"]["cost"] == Decimal(default["total_usd"])
    async with caller.session.get(f"{root}/sim/bill?summary=1") as got:
        assert "generations" not in next(iter((await got.json())["keys"].values()))


@pytest.mark.wire
async def test_strikes_are_counted_by_name(caller: Caller) -> None:
    await caller.chat("[[sim fault=repr_float]]")
    async with caller.session.get(f"{caller.sim.base_url.removesuffix('/api/v1')}/sim/faults") as got:
        assert await got.json() == {"repr_float": 1}


def test_a_moment_is_utc_with_seconds() -> None:
    assert iso(parse_utc("2027-01-31T23:59:59Z")) == "2027-01-31T23:59:59Z"
    assert iso(None) is None


@each("text", ["2027-01-31T23:59:59+02:00", "2027-01-31", "2027-01-31T23:59Z", "soon", 5])
def test_any_other_form_is_refused(text: object) -> None:
    with pytest.raises(ApiError):
        parse_utc(text)
