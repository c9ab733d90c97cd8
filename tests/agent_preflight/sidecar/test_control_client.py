"""The client of the control socket, with a real proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_preflight.base.usd import pusd
from agent_preflight.sidecar.control_client import ControlClient, ControlError, ControlUnreachableError
from preflight_proxy.base.control_messages import AccountSpec, LedgerEvent
from preflight_proxy.core.secret import Secret
from tests.support.control_world import RUN, Controlled, controlled


@pytest.mark.wire
async def test_a_socket_without_a_proxy_is_an_error_of_its_own(tmp_path: Path) -> None:
    async with ControlClient(tmp_path / "none.sock") as client:
        with pytest.raises(ControlUnreachableError):
            await client.balance("a")
        with pytest.raises(ControlUnreachableError):
            async for _ in client.follow("run", 0):
                pass


# With a real proxy


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    async with controlled(tmp_path) as made:
        yield made


@pytest.fixture
async def client(world: Controlled) -> AsyncIterator[ControlClient]:
    async with ControlClient(world.data / "c.sock") as client:
        yield client


async def an_account(world: Controlled, name: str) -> AccountSpec:
    token = Secret(f"pf-{name}-0123456789abcdef0123456789")
    world.tokens[name] = token.reveal()
    key = Secret(await world.sub_key(name))
    budget_file = str(world.data / "budget.txt")
    return AccountSpec(limit_pusd=pusd(1), token=token, key=key, key_is_own=True, run=RUN, budget_file=budget_file)


@pytest.mark.wire
async def test_each_call_changes_the_account_and_returns_it(world: Controlled, client: ControlClient) -> None:
    name = "a/b ü"  # an alias is no path, and may need quoting
    spec = await an_account(world, name)
    opened = await client.open(name, spec)
    assert (opened.id, opened.limit_pusd, opened.available_pusd, opened.calls) == ("a/b ü", pusd(1), pusd(1), 0)
    again = await client.open(name, spec)
    assert again == replace(opened, as_of=again.as_of)
    assert again.as_of > opened.as_of > 0
    assert (await client.top_up(name, pusd("0.5"))).limit_pusd == pusd("1.5")
    assert (await client.open(name, replace(spec, keep_limit=True))).limit_pusd == pusd("1.5")
    assert (await client.set_limit(name, pusd("0.000000000001"))).limit_pusd == 1
    assert (await client.freeze(name, "enough")).frozen == "enough"
    assert (await client.unfreeze(name)).frozen is None
    (listed,) = await client.accounts()
    assert await client.balance(name) == replace(listed, as_of=listed.as_of + 1)
    assert (await client.close_account(name)).limit_pusd == 1
    assert (world.data / "budget.txt").read_text().startswith("Budget: ")


@pytest.mark.wire
async def test_a_refusal_has_the_code_of_the_proxy(world: Controlled, client: ControlClient) -> None:
    with pytest.raises(ControlError) as refused:
        await client.balance("nobody")
    assert refused.value.code == "unknown_account"
    assert not isinstance(refused.value, ControlUnreachableError)
    first = await an_account(world, "a")
    await client.open("a", first)
    with pytest.raises(ControlError, match="another account") as refused:
        await client.open("b", replace(await an_account(world, "b"), token=first.token))
    assert refused.value.code == "invalid_request"
    assert [balance.id for balance in await client.accounts()] == ["a"]


@pytest.mark.wire
async def test_events_come_in_order_and_again_from_a_cursor(world: Controlled, client: ControlClient) -> None:
    await client.open("a", await an_account(world, "a"))
    async with aclosing(client.follow(RUN, 0)) as events:
        await client.freeze("a", "enough")
        await client.unfreeze("a")
        opened, *heard = await _heard(events, 3)
    assert opened.type == "opened"
    assert [(each.type, each.account) for each in heard] == [("frozen", "a"), ("unfrozen", "a")]
    assert [each.balance and each.balance.frozen for each in heard] == ["enough", None]
    async with aclosing(client.follow(RUN, heard[0].seq)) as events:
        assert (await _heard(events, 1))[0].seq == heard[1].seq


async def _heard(events: AsyncIterator[LedgerEvent], count: int) -> list[LedgerEvent]:
    """The next events of accounts."""
    found: list[LedgerEvent] = []
    async with asyncio.timeout(30):
        async for event in events:
            found += [event] if event.account else []
            if len(found) == count:
                break
    return found
