"""Accounts with gates: served inside their trial, for their own token only, and ended with their gate (C2, C4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from preflight_proxy.base.control_messages import AccountSpec
from preflight_proxy.calls.routes import UNKNOWN_CLIENT
from preflight_proxy.core.errors import LedgerError, UpstreamError
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Secret
from tests.preflight_proxy.gates.test_shared import hand_over, hears
from tests.support.control_world import RUN, Controlled, controlled
from tests.support.network_namespace import Namespace
from tests.support.proxy_world import chat
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

PORT = 8788


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    """A proxy without any account yet."""
    async with controlled(tmp_path) as made:
        yield made


def gate(world: Controlled, name: str = "a") -> dict[str, Any]:
    """The gate part of an account's spec."""
    return {"socket": str(world.data / f"{name}.sock"), "ports": [PORT]}


def hand_in(world: Controlled, inside: Namespace, name: str = "a") -> socket.socket:
    """Be the gate of an account; returns its connection."""
    return hand_over(world.data / f"{name}.sock", [inside.listener(PORT).fileno()])


async def becomes(world: Controlled, state: str, name: str = "a") -> None:
    async with asyncio.timeout(30):
        while world.proxy.ledger.account_state(name).gate != state:
            await asyncio.sleep(0.005)


async def call_inside(inside: Namespace, token: str, body: Any = None) -> tuple[int, Any]:
    """An agent's call inside its trial."""
    sock = inside.make()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", PORT))
    content = json.dumps(body or chat()).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    async with Raw(*await asyncio.open_connection(sock=sock)) as agent:
        agent.send(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, _, answer = await agent.answer()
        return status, json.loads(answer)


async def test_a_gate_that_could_not_be_opened_is_opened_by_the_next_request(world: Controlled) -> None:
    await world.put("a")
    spec = {
        "run": RUN,
        "limit_usd": "1",
        "token": world.tokens["a"],
        "key": await world.sub_key("a"),
        "key_is_own": True,
    }
    nowhere = gate(world) | {"socket": "/no/such/folder/gate.sock"}
    status, _ = await world.ask("PUT", "/accounts/a", {**spec, "gate": nowhere})
    assert status >= 400
    assert (await world.put("a", gate=gate(world)))["gate"] == "waiting"


async def test_an_agent_is_served_inside_its_trial(world: Controlled) -> None:
    with Namespace() as inside:
        assert (await world.put("a", gate=gate(world)))["gate"] == "waiting"
        with hand_in(world, inside) as connection:
            assert await hears(connection) == b"K"
            await becomes(world, "ready")
            status, answer = await call_inside(inside, world.tokens["a"])
            assert (status, answer["object"]) == (200, "chat.completion")


async def test_a_gates_listeners_take_their_own_accounts_token_alone(world: Controlled) -> None:
    """A token that leaked into another trial is worth nothing there; on TCP it alone decides."""
    with Namespace() as inside:
        await world.put("a", gate=gate(world))
        await world.put("b")
        with hand_in(world, inside):
            await becomes(world, "ready")
            assert (await call_inside(inside, world.tokens["b"]))[0] == 401
            assert (await call_inside(inside, "pf-nobody"))[0] == 401
        (cause,) = world.proxy.ledger.account("a").outcomes.causes
        assert (cause.text, cause.count) == (UNKNOWN_CLIENT, 2)  # its agent called, with a token of its own
        assert world.proxy.ledger.account("b").outcomes.causes == ()
        async with world.post(token=world.tokens["b"]) as response:
            assert response.status == 200


async def test_a_lost_gate_freezes_its_account(world: Controlled) -> None:
    with Namespace() as inside:
        await world.put("a", gate=gate(world))
        with hand_in(world, inside):
            await becomes(world, "ready")
        await world.frozen("a", "gate lost")
        assert world.proxy.ledger.account_state("a").gate == "lost"
        status, answer = await call_inside(inside, world.tokens["a"])
        assert (status in (401, 402), Code.FROZEN.sentence in str(answer)) == (True, True)


async def test_a_hand_over_that_is_refused_is_told(world: Controlled) -> None:
    await world.put("a", gate=gate(world))
    with socket.create_server(("127.0.0.1", 0)) as own, hand_over(world.data / "a.sock", [own.fileno()]):
        await becomes(world, "refused")
    assert (await world.ask("GET", "/accounts/a"))[1]["gate"] == "refused"


async def test_a_closed_account_serves_nobody_inside(world: Controlled) -> None:
    with Namespace() as inside:
        await world.put("a", gate=gate(world))
        with hand_in(world, inside):
            await becomes(world, "ready")
            await world.ask("DELETE", "/accounts/a")
            with pytest.raises(ConnectionRefusedError):
                await call_inside(inside, world.tokens["a"])
        assert not (world.data / "a.sock").exists()


async def test_opening_again_keeps_the_gate(world: Controlled) -> None:
    with Namespace() as inside:
        await world.put("a", gate=gate(world))
        with hand_in(world, inside):
            await becomes(world, "ready")
            assert (await world.put("a", "2", gate=gate(world)))["gate"] == "ready"
            assert (await call_inside(inside, world.tokens["a"]))[0] == 200


async def test_a_gates_socket_that_cannot_be_made_is_named(world: Controlled) -> None:
    key = await world.sub_key("a")
    spec = {"limit_usd": "1", "token": "pf-token-0123456789abcdef", "key": key, "run": "run"}
    nowhere = str(world.data / "nowhere" / "g.sock")
    status, document = await world.ask("PUT", "/accounts/a", {**spec, "gate": {"socket": nowhere, "ports": [PORT]}})
    assert (status, nowhere in document["error"]["message"]) == (502, True)


async def test_the_next_proxy_serves_the_same_listeners(tmp_path: Path) -> None:
    """The first one stops in order; nobody inside is refused, and the account goes on where it stood."""
    (tmp_path / "data").mkdir()
    with Namespace() as inside, contextlib.ExitStack() as connections:
        fds = [inside.listener(PORT).fileno()]
        async with controlled(tmp_path / "data") as first:
            await first.put("a", gate=gate(first))
            connection = connections.enter_context(hand_over(first.data / "a.sock", fds))
            await becomes(first, "ready")
            assert await hears(connection) == b"K"
            assert (await call_inside(inside, first.tokens["a"]))[0] == 200
        assert await hears(connection) == b""
        waiting = asyncio.ensure_future(call_inside(inside, first.tokens["a"]))
        async with controlled(tmp_path / "data") as second:
            second.may_differ = True  # the new simulator knows nothing of the first call
            await second.put("a", token=first.tokens["a"], gate=gate(second))
            connection = connections.enter_context(hand_over(second.data / "a.sock", fds))
            assert await hears(connection) == b"K"
            assert (await waiting)[0] == 200
            balance = (await second.ask("GET", "/accounts/a"))[1]
            assert (balance["frozen"], balance["calls"]) == (None, 2)


# Without gates


async def test_a_limit_below_zero_opens_nothing(world: Controlled) -> None:
    with pytest.raises(ValueError, match="a limit lies between"):
        await world.proxy.accounts.open("a", AccountSpec(limit_pusd=-1, token=Secret("pf-t"), key=Secret("sk-or-v1-k")))
    assert world.proxy.ledger.accounts() == {}


async def test_a_key_that_upstream_does_not_know_opens_nothing(world: Controlled) -> None:
    spec = AccountSpec(
        limit_pusd=limit_pusd("1"), token=Secret("pf-t"), key=Secret("sk-or-v1-unknown-key"), key_is_own=True
    )
    with pytest.raises(UpstreamError):
        await world.proxy.accounts.open("a", spec)
    assert world.proxy.ledger.accounts() == {}


async def test_of_two_accounts_that_open_at_once_with_one_token_one_is_opened(world: Controlled) -> None:
    specs = {
        name: AccountSpec(
            limit_pusd=limit_pusd("1"), token=Secret("pf-t"), key=Secret(await world.sub_key(name)), key_is_own=True
        )
        for name in "ab"
    }
    opening = (world.proxy.accounts.open(name, spec) for name, spec in specs.items())
    results = await asyncio.gather(*opening, return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [ValueError]
    assert len(world.proxy.ledger.accounts()) == 1


async def test_a_stream_that_cannot_be_cut_stops_neither_the_freeze_nor_the_end_of_others(world: Controlled) -> None:
    await world.put("a")

    class Broken:
        def cut(self, _reason: str) -> None:
            raise RuntimeError("a fault of our own")

    class Quick:
        def __init__(self) -> None:
            self.reasons: list[str] = []

        def cut(self, reason: str) -> None:
            self.reasons.append(reason)

    quick = Quick()
    running = world.proxy.ledger.account_state("a").running
    running.update([Broken(), quick, Broken()])
    await world.proxy.accounts.freeze("a", "ejected")
    assert (world.proxy.ledger.account("a").frozen, quick.reasons) == ("ejected", ["ejected"])
    running.clear()


async def test_a_ledger_that_cannot_be_written_still_ends_running_streams(world: Controlled) -> None:
    await world.put("a")
    async with world.post() as response:
        await response.read()
    ended: list[str] = []

    class Call:
        def cut(self, reason: str) -> None:
            ended.append(reason)

    world.proxy.ledger.account_state("a").running.add(Call())
    world.proxy.ledger.store.close()
    with pytest.raises(LedgerError):
        await world.proxy.accounts.freeze("a", "ejected")
    assert ended == ["ejected"]
    world.proxy.ledger.account_state("a").running.clear()


async def test_an_account_that_is_opened_again_may_keep_what_a_person_adds_meanwhile(
    world: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the proxy: reading the key's usage takes its time."""
    await world.put("a", "1.00")
    accounts, read = world.proxy.accounts, world.proxy.accounts._key_usage

    async def while_a_person_adds(key: Secret) -> int:
        usage_pusd = await read(key)
        accounts.top_up("a", 10**10)
        return usage_pusd

    spec = AccountSpec(
        limit_pusd=limit_pusd("0.50"),
        token=Secret(world.tokens["a"]),
        key=Secret(await world.sub_key("a")),
        key_is_own=True,
        run="run",
    )
    monkeypatch.setattr(accounts, "_key_usage", while_a_person_adds)
    await accounts.open("a", msgspec.structs.replace(spec, keep_limit=True))
    assert world.proxy.ledger.account("a").limit_pusd == 10**12 + 10**10
    monkeypatch.undo()
    await accounts.open("a", spec)
    assert world.proxy.ledger.account("a").limit_pusd == 5 * 10**11
    await accounts.open("b", msgspec.structs.replace(spec, keep_limit=True, token=Secret("pf-b-0123456789abcdef")))
    assert world.proxy.ledger.account("b").limit_pusd == 5 * 10**11


async def test_another_limit_at_the_opening_clears_earlier_refusals_and_the_same_limit_does_not(
    world: Controlled,
) -> None:
    """A refused call may fit under the new limit (M19, a refused call that repeats)."""
    await world.put("a", "1.00")
    ledger = world.proxy.ledger
    ledger.note_refusal("a", Code.DOES_NOT_FIT, "m/x")
    await world.put("a", "1.00")
    assert ledger.account_state("a").is_refused
    await world.put("a", "2.00")
    assert not ledger.account_state("a").is_refused
