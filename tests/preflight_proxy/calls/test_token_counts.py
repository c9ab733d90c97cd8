"""`POST /messages/count_tokens`: answered here, for nothing, in Anthropic's form, within the limits of every body."""

from __future__ import annotations

import io
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest

from preflight_proxy.core.ledger.commands import Freeze, SetLimit
from preflight_proxy.server.intake import REQUEST_BYTES_MAX
from tests.support.proxy_world import DEAR_MODEL, World, chat

pytestmark = pytest.mark.wire

PATH = "/messages/count_tokens"


def ask(world: World, body: bytes | None = None, **fields: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Ask for the count of a body, or of a short message."""
    data = json.dumps({**chat(), "model": DEAR_MODEL, **fields}).encode() if body is None else body
    url, headers = world.base_url + PATH + "?beta=true", {"x-api-key": world.tokens["a"]}
    return world.client.post(url, data=io.BytesIO(data), headers=headers)


async def counted(world: World, **fields: Any) -> int:
    async with ask(world, **fields) as response:
        assert response.status == 200, await response.text()
        document = await response.json()
    assert list(document) == ["input_tokens"]
    return int(document["input_tokens"])


async def test_a_count_costs_nothing_and_asks_nobody(world: World) -> None:
    before = world.proxy.ledger.account("a")
    short = await counted(world)
    assert 5 <= short <= 20
    long = await counted(world, messages=[{"role": "user", "content": "Read the plan of this house. " * 5000}])
    assert 35_000 <= long <= 60_000
    assert world.proxy.ledger.account("a") == before
    assert world.sim.requests == []
    assert world.proxy.intake.bodies_bytes == 0


async def test_what_an_account_has_left_and_may_call_does_not_matter(world: World) -> None:
    await world.open("a", models=("openai/gpt-4.1-nano",))
    world.proxy.ledger.commit(SetLimit("a", 0))
    world.proxy.ledger.commit(Freeze("a", "over"))
    async with ask(world) as response:
        assert (response.status, response.headers["X-Budget-Available"]) == (200, "0")


async def test_the_whole_body_of_anthropics_api_is_read(world: World) -> None:
    tool = {"name": "a", "description": "b" * 500, "input_schema": {"type": "object"}}
    more = {"system": [{"type": "text", "text": "c" * 500}], "tools": [tool], "tool_choice": {"type": "auto"}}
    assert (
        await counted(world, **more, thinking={"type": "enabled", "budget_tokens": 2048}) > await counted(world) + 346
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model":"a/b"}', b'{"messages":[]}', b"[" * 5000, b"\xff" * 300_000]
)
async def test_a_body_that_cannot_be_read_is_refused_in_anthropics_form(world: World, body: bytes) -> None:
    async with ask(world, body) as response:
        document = await response.json()
    assert (response.status, document["type"], document["error"]["type"]) == (400, "error", "invalid_request_error")
    assert world.proxy.intake.bodies_bytes == 0


async def test_a_body_that_is_too_large_is_not_taken_in(world: World) -> None:
    async with ask(world, b" " * (REQUEST_BYTES_MAX + 1)) as response:
        assert response.status == 413
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_count_needs_a_token_and_is_a_post(world: World) -> None:
    async with world.client.post(world.base_url + PATH, data=b"{}", headers={"x-api-key": "no"}) as response:
        assert (response.status, (await response.json())["error"]["type"]) == (401, "authentication_error")
    async with world.client.get(world.base_url + PATH, headers={"x-api-key": world.tokens["a"]}) as response:
        assert response.status == 400
