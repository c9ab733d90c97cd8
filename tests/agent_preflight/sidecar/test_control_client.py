"""The runner's side of the control socket: what it sends, what it reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.sidecar.control_client import (
    Balance,
    ControlClient,
    ControlError,
    ControlUnreachableError,
    LedgerEvent,
)
from agent_preflight.sidecar.gate_request import Account
from preflight_proxy.core.secret import Secret
from tests.support.control_world import RUN, Controlled, controlled


def test_amounts_are_read_to_the_pico_dollar() -> None:
    balance = Balance.from_json(
        {"id": "a", "limit_usd": "0.25", "posted_usd": "0.000000000001", "calls": 3, "spent": True}
    )
    assert (balance.limit_pusd, balance.posted_pusd, balance.calls, balance.spent) == (250_000_000_000, 1, 3, True)
    assert (balance.gate, balance.frozen, balance.pending_pusd) == (None, None, 0)


def test_what_a_newer_proxy_says_besides_is_no_harm() -> None:
    assert Balance.from_json({"id": "a", "new_field": 1}).id == "a"


def test_an_account_goes_out_with_exact_text_and_shows_no_secret() -> None:
    account = Account("a", "run", 1, Secret("pf-token"), Secret("sk-or-key"), Path("/b/budget.txt"), "odd mode")
    document = account.document()
    assert (document["limit_usd"], document["token"], document["key"]) == ("0.000000000001", "pf-token", "sk-or-key")
    assert document["budget_mode"] == "simple"
    assert "sk-or-key" not in repr(account)
    assert "pf-token" not in repr(account)


def test_an_event_carries_its_balance_and_its_own_facts() -> None:
    event = LedgerEvent.from_json(
        {"seq": 7, "type": "settled", "account": "a", "balance": {"id": "a", "calls": 1}, "cost_usd": "0.1"}
    )
    assert event.balance is not None
    assert (event.seq, event.balance.calls, event.facts) == (7, 1, {"cost_usd": "0.1"})


def test_a_heartbeat_is_an_event_without_a_place() -> None:
    assert LedgerEvent.from_json({"type": "heartbeat"}).seq == 0


@pytest.mark.wire
async def test_nobody_on_the_socket_is_an_error_that_can_be_told_from_a_refusal(tmp_path: Path) -> None:
    client = ControlClient(tmp_path / "none.sock")
    try:
        with pytest.raises(ControlUnreachableError):
            await client.balance("a")
        with pytest.raises(ControlUnreachableError):
            async for _ in client.follow("run", 0):
                pass
    finally:
        await client.close()


# Before a real proxy


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    async with controlled(tmp_path) as made:
        yield made


@pytest.fixture
async def client(world: Controlled) -> AsyncIterator[ControlClient]:
    made = ControlClient(world.data / "c.sock")
    yield made
    await made.close()


async def an_account(world: Controlled, name: str, limit_usd: str = "1") -> Account:
    token = Secret(f"pf-{name}-0123456789abcdef0123456789")
    world.tokens[name] = token.reveal()
    key = Secret(await world.sub_key(name))
    return Account(name, RUN, pusd(limit_usd), token, key, world.data / "budget.txt")


@pytest.mark.wire
async def test_an_account_goes_through_its_life(world: Controlled, client: ControlClient) -> None:
    account = await an_account(world, "a/b ü")  # an alias is no path, and may need quoting
    opened = await client.open(account)
    assert (opened.id, opened.limit_pusd, opened.available_pusd, opened.calls) == ("a/b ü", pusd(1), pusd(1), 0)
    again = await client.open(account)
    assert again == replace(opened, as_of=again.as_of)
    assert again.as_of > opened.as_of > 0
    assert (await client.top_up(account.id, pusd("0.5"))).limit_pusd == pusd("1.5")
    assert (await client.open(replace(account, keep_limit=True))).limit_pusd == pusd("1.5")
    assert (await client.set_limit(account.id, pusd("0.000000000001"))).limit_pusd == 1
    assert (await client.freeze(account.id, "enough")).frozen == "enough"
    assert (await client.unfreeze(account.id)).frozen is None
    (listed,) = await client.accounts()
    assert await client.balance(account.id) == replace(listed, as_of=listed.as_of + 1)
    assert (await client.close_account(account.id)).limit_pusd == 1
    assert account.budget_file.read_text().startswith("Budget: ")


@pytest.mark.wire
async def test_a_refusal_has_its_status_and_its_code_and_is_no_silence(
    world: Controlled, client: ControlClient
) -> None:
    with pytest.raises(ControlError) as refused:
        await client.balance("nobody")
    assert (refused.value.status, refused.value.code) == (404, "unknown_account")
    assert not isinstance(refused.value, ControlUnreachableError)
    first = await an_account(world, "a")
    await client.open(first)
    with pytest.raises(ControlError, match="another account") as refused:
        await client.open(replace(await an_account(world, "b"), token=first.token))
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
    assert [balance.id for balance in await client.accounts()] == ["a"]


@pytest.mark.wire
async def test_events_come_in_order_and_can_be_asked_for_again_from_a_cursor(
    world: Controlled, client: ControlClient
) -> None:
    await client.open(await an_account(world, "a"))
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
