"""Keys and credits, on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from openrouter_sim.billing.account import hash_of

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


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
async def test_what_is_malformed_is_a_400(caller: Caller, body: Any) -> None:
    assert (await caller.admin("/keys", body)).status == 400


async def test_an_update_without_fields_is_refused(caller: Caller) -> None:
    _, key_hash = await caller.new_key(1)
    refused = await caller.admin(f"/keys/{key_hash}", {"expires_at": None}, "PATCH")
    assert (refused.status, refused.json["error"]["message"]) == (400, "No update fields provided")


async def test_a_body_that_is_no_json_is_refused(caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {caller.sim.admin_key}"}
    async with caller.session.post(f"{caller.sim.base_url}/keys", data=b"{", headers=headers) as answer:
        assert answer.status == 400


async def test_credits_show_settled_usage(caller: Caller) -> None:
    await caller.chat("[[sim tokens=1000]]")
    shown = (await caller.admin("/credits")).json["data"]
    assert shown == {"total_credits": 100, "total_usage": caller.sim.bill().total_usd}
