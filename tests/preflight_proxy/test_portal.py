"""Portable gates: who gets in, as whom, to what; and what ends with the forwarder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from preflight_proxy.app import running
from preflight_proxy.config import Config
from preflight_proxy.gate_doors import GateSpec
from preflight_proxy.portal import LINE_BYTES
from preflight_proxy.tunnel import Streams
from tests.preflight_proxy.control_world import Controlled, controlled
from tests.preflight_proxy.places import echo, place
from tests.preflight_proxy.raw_http import Raw
from tests.preflight_proxy.world import chat

pytestmark = pytest.mark.wire

PORT = 8788


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    """A proxy with a portal, without any account yet."""
    async with controlled(tmp_path, portal="127.0.0.1:0") as made:
        yield made


def pass_of(name: str) -> str:
    return name[0] * 43


def gate(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"socket": None, "ports": [PORT], "portal_pass": pass_of(name), **more}


async def connect(world: Controlled) -> Streams:
    assert world.proxy.portal is not None
    host, _, port = world.proxy.portal.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def show(world: Controlled, trial_pass: str, port: int = PORT) -> Streams:
    """Be a forwarder: connect and show a pass."""
    line = f"AP1 {trial_pass} {port:05d}\n".encode()
    assert len(line) == LINE_BYTES
    reader, writer = await connect(world)
    writer.write(line)
    return reader, writer


async def watch(world: Controlled, name: str = "a") -> Streams:
    """Be a forwarder that has the gate's listeners."""
    streams = await show(world, pass_of(name), 0)
    assert await streams[0].readexactly(1) == b"K"
    return streams


async def ends(streams: Streams) -> bytes:
    """Everything up to the end that the portal makes."""
    async with asyncio.timeout(20):
        try:
            rest = await streams[0].read()
        except ConnectionError:
            rest = b""
    streams[1].close()
    return rest


async def call(world: Controlled, token: str, name: str = "a") -> tuple[int, Any]:
    content = json.dumps(chat()).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    async with Raw(*await show(world, pass_of(name))) as agent:
        agent.send(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, _, body = await agent.answer()
    return status, json.loads(body)


async def get(world: Controlled, path: str, token: str) -> int:
    async with Raw(*await show(world, pass_of("a"))) as agent:
        agent.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        return (await agent.answer())[0]


async def test_a_forwarder_with_its_pass_carries_calls_that_are_booked(world: Controlled) -> None:
    balance = await world.put("a", gate=gate())
    assert balance["gate"] == "waiting"
    watching = await watch(world)
    watching[1].write(b"." * 100)
    status, answer = await call(world, world.tokens["a"])
    assert status == 200
    assert answer["usage"]["cost"] > 0
    _, balance = await world.ask("GET", "/accounts/a")
    assert (balance["gate"], balance["calls"]) == ("ready", 1)
    watching[1].close()


async def test_another_accounts_token_means_nothing_behind_a_pass(world: Controlled) -> None:
    await world.put("a", gate=gate())
    await world.put("b", gate=gate("b"))
    watching = [await watch(world), await watch(world, "b")]
    assert (await call(world, world.tokens["b"]))[0] == 401
    assert (await call(world, world.tokens["b"], "b"))[0] == 200
    for each in watching:
        each[1].close()


async def test_nobody_gets_in_without_a_pass_and_no_pass_leads_to_the_control_plane(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    assert await ends(await show(world, "x" * 43)) == b""
    for garbage in (
        b"GET /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 64,
        b"\0" * LINE_BYTES,
        b"AP1 short\n",
    ):
        streams = await connect(world)
        streams[1].write(garbage)
        streams[1].write_eof()
        assert await ends(streams) == b""
    for path in ("/accounts", "/health", "/events?run=run", "/api/v1/../../accounts"):
        assert await get(world, path, world.tokens["a"]) == 404
    watching[1].close()


async def test_a_port_that_the_gate_has_not_leads_nowhere_and_none_does_before_the_watch(world: Controlled) -> None:
    await world.put("a", gate=gate())
    assert await ends(await show(world, pass_of("a"))) == b""
    watching = await watch(world)
    assert await ends(await show(world, pass_of("a"), 22)) == b""
    watching[1].close()


async def test_a_forwarder_that_goes_freezes_its_account_and_cannot_come_back(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    watching[1].close()
    await world.frozen("a", "gate lost")
    assert await ends(await show(world, pass_of("a"), 0)) == b""
    assert await ends(await show(world, pass_of("a"))) == b""


async def test_a_closed_account_lets_nobody_in(world: Controlled) -> None:
    await world.put("a", gate=gate())
    watching = await watch(world)
    carried = await show(world, pass_of("a"))
    assert (await world.ask("DELETE", "/accounts/a?force=1"))[0] == 200
    assert await ends(carried) == b""
    assert await ends(await show(world, pass_of("a"))) == b""
    watching[1].close()


async def test_a_service_is_carried_byte_for_byte_and_counted(world: Controlled) -> None:
    async with place(echo) as target:
        services = [{"name": "los", "port": 3000, "target": f"127.0.0.1:{target}"}]
        await world.put("a", gate=gate(ports=[PORT, 3000], services=services))
        watching = await watch(world)
        reader, writer = await show(world, pass_of("a"), 3000)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        assert world.proxy.books.live("a").traffic["los"].received_bytes == 5
        watching[1].close()


async def test_a_proxy_without_a_portal_refuses_portable_gates(tmp_path: Path) -> None:
    async with controlled(tmp_path) as world:
        for wrong in (gate(), {"socket": None, "ports": [PORT]}, gate() | {"socket": "/s"}):
            spec = {"limit_usd": "1", "token": "pf-t", "key": "k", "gate": wrong}
            status, problem = await world.ask("PUT", "/accounts/a", spec)
            assert status == 400, problem


async def test_two_proxies_do_not_share_a_portal(tmp_path: Path, world: Controlled) -> None:
    (tmp_path / "other").mkdir()
    config = Config(data=str(tmp_path / "other"), upstream=world.sim.base_url, portal=world.proxy.portal)
    with pytest.raises(Exception, match="portable gates"):
        async with running(config):
            pass


def test_a_pass_is_not_printed() -> None:
    assert pass_of("a") not in repr(GateSpec(None, [PORT], portal_pass=pass_of("a")))
