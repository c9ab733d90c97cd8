"""The free reads: answered from the ledger, the price list, and of upstream an account's own generations alone."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from openrouter_sim import Scenario
from preflight_proxy.core.money import usd_text
from tests.support.proxy_world import MODEL, World
from tests.support.raw_http import is_error

pytestmark = pytest.mark.wire


async def read(world: World, path: str, name: str = "a") -> tuple[int, Any]:
    """GET a path with an account's token; figures come exact."""
    headers = {"Authorization": f"Bearer {world.tokens[name]}"}
    async with world.client.get(world.base_url + path, headers=headers) as response:
        return response.status, json.loads(await response.read(), parse_float=Decimal)


async def called(world: World, name: str = "a") -> str:
    """Make one call; its generation id, once upstream tells of it."""
    async with world.post(token=world.tokens[name]) as response:
        return str((await response.json())["id"])


# Figures of the ledger


@pytest.mark.parametrize("path", ["/key", "/auth/key"])
async def test_the_key_is_the_account(world: World, path: str) -> None:
    await called(world)
    status, document = await read(world, path)
    account = world.proxy.ledger.account("a")
    assert status == 200
    told = document["data"]
    assert told["label"] == "a"
    assert told["limit"] == 1
    assert told["usage"] == world.billed_usd() == world.posted_usd()
    assert told["limit_remaining"] == Decimal(account.available_pusd) / 10**12
    assert told["usage"] + told["limit_remaining"] == told["limit"]
    assert not told["is_management_key"]


async def test_figures_are_exact_to_the_last_digit(world: World) -> None:
    await world.open("exact", "999999.000000000001")
    assert (await read(world, "/key", "exact"))[1]["data"]["limit"] == Decimal("999999.000000000001")


async def test_what_is_reserved_is_not_available_and_not_used(world: World) -> None:
    world.sim.scenario = Scenario(tokens_per_s=50)
    async with world.post(stream=True, text="[[sim tokens=20]]", max_tokens=20) as response:
        await response.content.readany()
        told = (await read(world, "/key"))[1]["data"]
        budget = (await read(world, "/budget"))[1]
        await response.read()
    assert told["usage"] == 0
    assert told["limit_remaining"] < 1
    assert Decimal(budget["reserved_usd"]) == 1 - told["limit_remaining"] > 0


async def test_credits_are_the_budget(world: World) -> None:
    await called(world)
    _, document = await read(world, "/credits")
    assert document["data"] == {"total_credits": 1, "total_usage": world.billed_usd()}


async def test_the_budget_is_told_in_exact_text(world: World) -> None:
    await called(world)
    spent_pusd = world.proxy.ledger.account("a").posted_pusd
    assert await read(world, "/budget") == (
        200,
        {
            "limit_usd": "1",
            "spent_usd": usd_text(spent_pusd),
            "reserved_usd": "0",
            "available_usd": usd_text(10**12 - spent_pusd),
            "frozen": False,
            "spent": False,
        },
    )
    await world.proxy.accounts.freeze("a", "ejected for a private reason")
    frozen = (await read(world, "/budget"))[1]
    assert frozen["frozen"] is True


async def test_each_account_reads_itself(world: World) -> None:
    await world.open("b", "2")
    await called(world)
    assert (await read(world, "/key", "b"))[1]["data"]["usage"] == 0
    assert (await read(world, "/budget", "b"))[1]["limit_usd"] == "2"


async def test_reads_carry_the_balance_too(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    async with world.client.get(world.base_url + "/key", headers=headers) as response:
        assert response.headers["X-Budget-Limit"] == "1"


async def test_free_reads_do_not_ask_upstream(world: World) -> None:
    before = len(world.sim.requests)
    for path in ("/key", "/auth/key", "/credits", "/budget"):
        assert (await read(world, path))[0] == 200
    assert len(world.sim.requests) == before


# Generations


async def test_an_own_generation_is_told_by_upstream(world: World) -> None:
    generation_id = await called(world)
    async with asyncio.timeout(30):
        while (found := await read(world, f"/generation?id={generation_id}"))[0] != 200:
            await asyncio.sleep(0.02)
    assert found[1]["data"]["id"] == generation_id
    assert found[1]["data"]["total_cost"] == world.billed_usd()


async def test_another_accounts_generation_is_not_told_nor_asked_for(world: World) -> None:
    """The two share a simulator, and could share a key: the ledger decides whose it is."""
    generation_id = await called(world)
    await world.open("b")
    before = len(world.sim.requests)
    status, document = await read(world, f"/generation?id={generation_id}", "b")
    assert (status, document["error"]["code"]) == (404, 404)
    assert len(world.sim.requests) == before


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?id=",
        "?id=gen-unknown",
        "?id={id}&id={id}",
        "?id={id}&x=1",
        "?x=1&id={id}",
        "?id={id}%26key=1",
        "?id=../key",
    ],
)
async def test_only_one_id_of_ones_own_is_asked_for(world: World, query: str) -> None:
    path = f"/generation{query.format(id=await called(world))}"
    before = len(world.sim.requests)
    assert (await read(world, path))[0] == 404
    assert len(world.sim.requests) == before


async def test_a_generation_that_cannot_be_read_is_a_502(world: World) -> None:
    generation_id = await called(world)
    await world.sim.stop()
    status, document = await read(world, f"/generation?id={generation_id}")
    assert (status, document["error"]["code"]) == (502, 502)


# Models


async def test_models_are_upstreams_list(world: World) -> None:
    status, document = await read(world, "/models")
    assert status == 200
    assert MODEL in {model["id"] for model in document["data"]}


async def test_endpoints_are_upstreams_list(world: World) -> None:
    status, document = await read(world, f"/models/{MODEL}/endpoints")
    assert (status, document["data"]["id"]) == (200, MODEL)
    assert document["data"]["endpoints"]


@pytest.mark.parametrize(
    "path",
    [
        "/models/nobody/nothing/endpoints",
        "/models/x/endpoints",
        "/models/a/b/c/endpoints",
        "/models/../keys/endpoints",
        "/models/a/%2e%2e/endpoints",
        f"/models/{MODEL}",
        f"/models/{MODEL}/endpoints/x",
        "/models/user",
        "/models/count",
    ],
)
async def test_what_is_no_model_is_a_404(world: World, path: str) -> None:
    status, document = await read(world, path)
    assert status == 404
    assert is_error(json.dumps(document).encode(), 404)


async def test_lists_that_cannot_be_read_are_a_502(world: World) -> None:
    await world.sim.stop()
    for path in ("/models", "/models/a/b/endpoints"):
        status, document = await read(world, path)
        assert (status, document["error"]["code"]) == (502, 502)
