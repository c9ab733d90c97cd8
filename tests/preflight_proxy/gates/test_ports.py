"""What stands behind a gate's ports: the data plane in plain HTTP, and in TLS as `openrouter.ai`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiohttp import web

from agent_preflight.environment.authority import Authority
from preflight_proxy.base.control_messages import EgressSpec, GateSpec, ServiceSpec
from preflight_proxy.gates.ports import GatePorts
from preflight_proxy.server.acceptor import stop_all
from preflight_proxy.server.listeners import LISTENER_CONNECTIONS_MAX, Listeners
from tests.support.gate_places import echo, place
from tests.support.raw_http import Raw
from tests.support.tls import new_authority, tls_spec, trusting

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
REQUEST = b"GET /x HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=request.raw_path.encode())


@contextlib.asynccontextmanager
async def served_ports(authority: Authority, head_s_max: float = 10.0) -> AsyncIterator[tuple[int, int]]:
    """The plain port and the TLS port of one gate."""
    listeners = Listeners(head_s_max)
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    plain, tls = (sock.getsockname()[1] for sock in socks)
    for sock in socks:
        sock.setblocking(False)
    gate_ports = GatePorts(GateSpec("/none", (plain, tls), tls=tls_spec(authority, tls)), handle, listeners)
    acceptors = await gate_ports.serve(dict(zip((plain, tls), socks, strict=True)))
    yield plain, tls
    await stop_all(acceptors.values())
    for sock in socks:
        sock.close()
    await listeners.close()


async def secure(port: int, context: ssl.SSLContext, name: str = "openrouter.ai") -> Raw:
    return Raw(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))


@on_both_loops
def test_one_port_speaks_plainly_and_the_other_is_openrouter(run: Run) -> None:
    async def scene() -> None:
        authority = new_authority()
        async with asyncio.timeout(30), served_ports(authority) as (plain, tls):
            async with await Raw.to(plain) as agent:
                agent.send(REQUEST)
                assert (await agent.answer())[2] == b"/x"
            async with await secure(tls, trusting(authority.root)) as agent:
                for _ in range(2):
                    agent.send(REQUEST)
                    assert (await agent.answer())[2] == b"/x"

    run(scene())


async def test_a_client_that_trusts_another_authority_or_wants_another_name_refuses_the_certificate() -> None:
    authority = new_authority()
    async with asyncio.timeout(30), served_ports(authority) as (_, tls):
        for roots, name in ((new_authority().root, "openrouter.ai"), (authority.root, "example.com")):
            with pytest.raises(ssl.SSLCertVerificationError):
                await secure(tls, trusting(roots), name)


@on_both_loops
def test_a_slow_handshake_is_ended(run: Run) -> None:
    async def scene() -> None:
        async with (
            asyncio.timeout(30),
            served_ports(new_authority(), head_s_max=0.05) as (_, tls),
            await Raw.to(tls) as agent,
        ):
            assert await agent.ended()

    run(scene())


@on_both_loops
def test_plain_bytes_on_the_tls_port_end_that_connection_alone(run: Run) -> None:
    async def scene() -> None:
        authority = new_authority()
        async with asyncio.timeout(30), served_ports(authority) as (_, tls):
            async with await Raw.to(tls) as agent:
                agent.send(REQUEST)
                await agent.ended()
            async with await secure(tls, trusting(authority.root)) as agent:
                agent.send(REQUEST)
                assert (await agent.answer())[0] == 200

    run(scene())


@on_both_loops
def test_connections_count_from_before_their_handshake(run: Run) -> None:
    async def scene() -> None:
        authority = new_authority()
        async with (
            asyncio.timeout(60),
            served_ports(authority, head_s_max=60.0) as (_, tls),
            contextlib.AsyncExitStack() as agents,
            await secure(tls, trusting(authority.root)) as first,
        ):
            first.send(REQUEST)
            assert (await first.answer())[0] == 200
            for _ in range(LISTENER_CONNECTIONS_MAX - 1):
                await agents.enter_async_context(await Raw.to(tls))
            async with await Raw.to(tls) as surplus:
                assert await surplus.ended()
            first.send(REQUEST)
            assert (await first.answer())[0] == 200

    run(scene())


@on_both_loops
def test_the_end_of_serving_ends_connections(run: Run) -> None:
    async def scene() -> None:
        authority = new_authority()
        async with asyncio.timeout(30), contextlib.AsyncExitStack() as agents:
            async with served_ports(authority) as (_, tls):
                agent = await agents.enter_async_context(await secure(tls, trusting(authority.root)))
                agent.send(REQUEST)
                assert (await agent.answer())[0] == 200
            assert await agent.ended()

    run(scene())


def test_a_tls_port_that_is_not_handed_over_is_an_error() -> None:
    spec = GateSpec("/none", (8788,), tls=tls_spec(new_authority(), 443))
    with pytest.raises(ValueError, match="443"):
        GatePorts(spec, handle, Listeners())


def test_a_spec_never_shows_its_key() -> None:
    assert "PRIVATE" not in repr(GateSpec("/none", (443,), tls=tls_spec(new_authority(), 443)))


async def test_each_port_leads_where_its_spec_says_and_is_counted() -> None:
    listeners, socks = Listeners(), [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.setblocking(False)
    async with asyncio.timeout(30), place(echo) as target:
        spec = GateSpec(
            "/none",
            tuple(ports),
            services=(ServiceSpec("los", ports[1], f"127.0.0.1:{target}"),),
            egress=EgressSpec(ports[2], ("pypi.org:443",)),
        )
        gate_ports = GatePorts(spec, handle, listeners)
        acceptors = await gate_ports.serve(dict(zip(ports, socks, strict=True)))
        async with await Raw.to(ports[0]) as agent:
            agent.send(REQUEST)
            assert (await agent.answer())[2] == b"/x"
        async with await Raw.to(ports[1]) as agent:
            agent.send(b"hello")
            agent.writer.write_eof()
            assert await agent.reader.read() == b"hello"
        async with await Raw.to(ports[2]) as agent:
            agent.send(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
            assert (await agent.answer())[0] == 403
        await stop_all(acceptors.values())
    for sock in socks:
        sock.close()
    await listeners.close()
    assert {name: (traffic.connections, traffic.refused) for name, traffic in gate_ports.traffic.items()} == {
        "los": (1, 0),
        "egress": (0, 1),
    }


@pytest.mark.parametrize(
    "more",
    [
        {"services": (ServiceSpec("los", 3000, "127.0.0.1:3000"),)},
        {"services": (ServiceSpec("los", 1, "nowhere"),)},
        {"services": (ServiceSpec("egress", 1, "127.0.0.1:3000"),)},
        {
            "services": (
                ServiceSpec("los", 1, "127.0.0.1:3000"),
                ServiceSpec("los", 2, "127.0.0.1:3000"),
            )
        },
        {
            "services": (
                ServiceSpec("a", 1, "127.0.0.1:3000"),
                ServiceSpec("b", 1, "127.0.0.1:3000"),
            )
        },
        {"egress": EgressSpec(1, ("pypi.org",))},
        {"egress": EgressSpec(3000, ("pypi.org:443",))},
    ],
)
def test_a_spec_that_contradicts_itself_is_an_error(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        GatePorts(GateSpec("/none", (1, 2), **more), handle, Listeners())
