"""Calls that come in TLS through a gate, as clients with the address built in make them: the same money, the same ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openrouter_sim import Rule, Scenario
from preflight_proxy.base.control_messages import GateSpec
from preflight_proxy.core.refusals.refusals import Code
from tests.support.network_namespace import Namespace
from tests.support.proxy_world import World, chat
from tests.support.raw_http import Raw
from tests.support.tls import new_authority, tls_spec, trusting

pytestmark = pytest.mark.wire

PORT = 443
SLOW = Scenario(replies=(Rule(tokens=60),), tokens_per_s=40.0)


@contextlib.asynccontextmanager
async def agent_of(world: World, name: str = "t") -> AsyncIterator[Raw]:
    """A client inside a network namespace of its own that talks to `https://openrouter.ai`, and a trial's account."""
    authority = new_authority()
    with tempfile.TemporaryDirectory(prefix="ap-") as short, Namespace() as inside:
        path = f"{short}/gate.sock"
        gate = GateSpec(path, (PORT,), tls=tls_spec(authority, PORT))
        await world.open(name, gate=gate)
        with socket.socket(socket.AF_UNIX) as handing:
            handing.connect(path)
            socket.send_fds(handing, [b"G"], [inside.listener(PORT).fileno()])
            handing.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(handing, 1) == b"K"
            sock = inside.make()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", PORT))
            context = trusting(authority.root)
            async with Raw(
                *await asyncio.open_connection(sock=sock, ssl=context, server_hostname="openrouter.ai")
            ) as agent:
                yield agent
            await world.proxy.accounts.close(name)
            assert not Path(path).exists()


def call(token: str, *, stream: bool = False) -> bytes:
    body = json.dumps(chat(max_tokens=400, stream=stream)).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer {token}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_call_in_tls_is_posted_as_any_other(world: World) -> None:
    async with asyncio.timeout(60), agent_of(world) as agent:
        for _ in range(2):
            agent.send(call(world.tokens["t"]))
            status, headers, body = await agent.answer()
            assert (status, json.loads(body)["usage"]["cost"] > 0) == (200, True)
            assert headers["x-budget-limit"] == "1"
        await world.settled("t")
        assert world.proxy.ledger.account("t").calls == 2


async def test_another_accounts_token_is_not_known_here(world: World) -> None:
    async with asyncio.timeout(60), agent_of(world) as agent:
        agent.send(call(world.tokens["a"]))
        assert (await agent.answer())[0] == 401


@pytest.mark.parametrize("scenario", [SLOW])
async def test_a_freeze_ends_a_stream_in_tls_between_two_events(world: World) -> None:
    async with asyncio.timeout(60), agent_of(world) as agent:
        agent.send(call(world.tokens["t"], stream=True))
        await agent.reader.readuntil(b"data: {")
        await world.proxy.accounts.freeze("t", "enough")
        rest = await agent.reader.readuntil(b"0\r\n\r\n")
        assert Code.FROZEN.sentence.encode() in rest


async def test_the_end_of_an_account_ends_its_connections_in_tls(world: World) -> None:
    async with asyncio.timeout(60), agent_of(world) as agent:
        agent.send(call(world.tokens["t"]))
        assert (await agent.answer())[0] == 200
        await world.proxy.accounts.close("t")
        assert await agent.ended()
