"""What a gate's ports serve: the API in plain HTTP, and in TLS as `openrouter.ai`; services, and egress."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
import structlog
import uvloop

from agent_preflight.environment.authority import Authority
from preflight_proxy.base.control_messages import EgressSpec, GateSpec, ServiceSpec
from preflight_proxy.core.egress import Target
from preflight_proxy.gates.ports import (
    REFUSALS_LOGGED_MAX,
    RELAYED_CONNECTIONS_MAX,
    EgressRules,
    GatePorts,
    connected,
    exchange,
    open_egress,
    open_service,
    resolve_here,
    streams,
)
from preflight_proxy.ledger.account_state import Traffic
from preflight_proxy.server.listeners import LISTENER_CONNECTIONS_MAX, Listeners, stop_all
from preflight_proxy.server.request import ServerRequest
from tests.support.gate_places import closed_port, echo, flood, opened, pair, place
from tests.support.raw_http import Raw
from tests.support.tls import new_authority, tls_spec, trusting

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
REQUEST = b"GET /x HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"


async def handle(request: ServerRequest) -> None:
    request.response.answer(200, [], request.target.encode())


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


@contextlib.asynccontextmanager
async def service(target_port: int, traffic: Traffic) -> AsyncIterator[int]:
    target = Target("127.0.0.1", target_port)
    async with opened(lambda listener: open_service(listener, "los", target, traffic)) as port:
        yield port


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"] if host == "named.example" else ["10.0.0.1"]


HERE = EgressRules(to_loopback, lambda address: address == "127.0.0.1")


@contextlib.asynccontextmanager
async def egress(target_port: int, traffic: Traffic, outside: EgressRules = HERE) -> AsyncIterator[int]:
    allowed = {Target(host, target_port) for host in ("named.example", "inside.example")}
    async with opened(lambda listener: open_egress(listener, allowed, traffic, outside)) as port:
        yield port


async def no_more_than(count: int, port: int, traffic: Traffic) -> None:
    """Open connections until one is refused."""
    async with contextlib.AsyncExitStack() as agents:
        for _ in range(count):
            await agents.enter_async_context(await Raw.to(port))
        async with await Raw.to(port) as surplus:
            assert await surplus.ended()
        assert traffic.refused == 1


# Services


@on_both_loops
def test_an_agent_talks_to_a_service_as_if_it_were_there(run: Run) -> None:
    async def scene() -> None:
        traffic = Traffic()
        async with asyncio.timeout(30), place(echo) as target, service(target, traffic) as port:
            for _ in range(2):
                async with await Raw.to(port) as agent:
                    agent.send(b"hello")
                    agent.writer.write_eof()
                    assert await agent.reader.read() == b"hello"
        assert traffic == Traffic(connections=2, sent_bytes=10, received_bytes=10)

    run(scene())


async def test_a_service_that_is_not_there_ends_the_connection_and_is_counted() -> None:
    traffic = Traffic()
    async with asyncio.timeout(30), service(closed_port(), traffic) as port, await Raw.to(port) as agent:
        assert await agent.ended()
    assert traffic == Traffic(refused=1)


async def test_a_services_connections_are_bounded() -> None:
    traffic = Traffic()
    async with asyncio.timeout(60), place(echo) as target, service(target, traffic) as port:
        await no_more_than(RELAYED_CONNECTIONS_MAX, port, traffic)


@on_both_loops
def test_the_end_of_serving_ends_a_connection_whose_agent_does_not_read(run: Run) -> None:
    async def scene() -> None:
        traffic = Traffic()
        async with asyncio.timeout(30), place(flood) as target, contextlib.AsyncExitStack() as agents:
            async with service(target, traffic) as port:
                agent = await agents.enter_async_context(await Raw.to(port))
                await agent.reader.readexactly(1)
            agent.writer.transport.abort()
        assert traffic.connections == 1

    run(scene())


# Egress


@on_both_loops
def test_a_named_place_is_reached_by_connect(run: Run) -> None:
    async def scene() -> None:
        traffic = Traffic()
        async with (
            asyncio.timeout(30),
            place(echo) as target,
            egress(target, traffic) as port,
            await Raw.to(port) as agent,
        ):
            agent.send(b"CONNECT named.example:%d HTTP/1.1\r\nHost: x\r\n\r\nand more" % target)
            assert await agent.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            agent.writer.write_eof()
            assert await agent.reader.read() == b"and more"
        assert traffic == Traffic(connections=1, sent_bytes=8, received_bytes=8)

    run(scene())


async def test_a_whole_url_is_passed_on_as_its_server_takes_it() -> None:
    async with (
        asyncio.timeout(30),
        place(echo) as target,
        egress(target, Traffic()) as port,
        await Raw.to(port) as agent,
    ):
        agent.send(b"POST http://named.example:%d/a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody" % target)
        agent.writer.write_eof()
        assert await agent.reader.read() == b"POST /a HTTP/1.1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"


async def _slow(host: str, port: int) -> Sequence[str]:
    raise TimeoutError


@pytest.mark.parametrize(
    ("head", "outside", "status"),
    [
        (b"CONNECT other.example:443 HTTP/1.1\r\n\r\n", HERE, 403),
        (b"CONNECT named.example:1 HTTP/1.1\r\n\r\n", HERE, 403),
        (b"CONNECT inside.example:%d HTTP/1.1\r\n\r\n", HERE, 403),
        (b"CONNECT named.example:%d HTTP/1.1\r\n\r\n", EgressRules(to_loopback), 403),
        (b"CONNECT named.example:%d HTTP/1.1\r\n\r\n", EgressRules(_slow), 502),
        (b"CONNECT named.example:%d HTTP/1.1\r\n\r\n", HERE, 502),
        (b"GET / HTTP/1.1\r\n\r\n", HERE, 400),
        (b"CONNECT named.example:%d HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", HERE, 431),
        (b"x" * 70_000, HERE, 431),
    ],
)
async def test_what_was_not_named_or_is_not_public_or_is_not_there_is_refused_in_words(
    head: bytes, outside: EgressRules, status: int
) -> None:
    traffic, target = Traffic(), closed_port()
    async with asyncio.timeout(30), egress(target, traffic, outside) as port, await Raw.to(port) as agent:
        agent.send(head.replace(b"%d", str(target).encode()))
        found, headers, body = await agent.answer()
        assert (found, headers["connection"]) == (status, "close")
        assert body.endswith(b".\n")
    assert traffic == Traffic(refused=1)


async def test_an_agent_that_leaves_before_it_asks_is_no_fault() -> None:
    async with asyncio.timeout(30), egress(closed_port(), Traffic()) as port, await Raw.to(port) as agent:
        agent.send(b"CONN")
        agent.writer.write_eof()
        assert await agent.ended()


async def test_an_egresss_connections_are_bounded() -> None:
    traffic = Traffic()
    async with asyncio.timeout(60), egress(closed_port(), traffic) as port:
        await no_more_than(RELAYED_CONNECTIONS_MAX, port, traffic)


async def test_this_machines_own_names_resolve_and_are_not_public() -> None:
    addresses = await resolve_here("localhost", 80)
    assert "127.0.0.1" in addresses
    assert not any(map(EgressRules().accepts, addresses))


async def test_an_agent_that_asks_in_a_loop_fills_no_log() -> None:
    traffic, asked = Traffic(), REFUSALS_LOGGED_MAX + 5
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(60), egress(closed_port(), traffic) as port:
            for _ in range(asked):
                async with await Raw.to(port) as agent:
                    agent.send(b"GET / HTTP/1.1\r\n\r\n")
                    assert (await agent.answer())[0] == 400
        async with asyncio.timeout(60), service(closed_port(), traffic) as port, await Raw.to(port) as agent:
            assert await agent.ended()
    assert len(logs) == REFUSALS_LOGGED_MAX
    assert traffic.refused == asked + 1


MUCH = bytes(range(256)) * 4096


@on_both_loops
def test_everything_arrives_after_one_end_has_closed_its_side(run: Run) -> None:
    async def scene() -> None:
        traffic = Traffic()
        async with (
            asyncio.timeout(30),
            place(echo) as port,
            pair() as (agent, inside),
            connected(["127.0.0.1"], port) as outside,
        ):
            passing = asyncio.ensure_future(exchange(inside, outside, traffic))
            agent[1].write(MUCH)
            agent[1].write_eof()
            assert await agent[0].read() == MUCH
            await passing
        assert (traffic.sent_bytes, traffic.received_bytes) == (len(MUCH), len(MUCH))

    run(scene())


@on_both_loops
def test_an_idle_connection_is_ended(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, _service):
            await exchange(inside, outside, Traffic(), idle_s_max=0.05)
            agent[1].close()

    run(scene())


@on_both_loops
def test_an_end_that_breaks_ends_the_other(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, service):
            passing = asyncio.ensure_future(exchange(inside, outside, Traffic()))
            service[1].transport.abort()
            agent[1].write(MUCH)
            agent[1].transport.abort()
            await passing

    run(scene())


@on_both_loops
def test_last_bytes_to_an_end_that_is_gone_are_no_fault(run: Run) -> None:
    async def scene() -> None:
        async with asyncio.timeout(30), pair() as (agent, inside), pair() as (outside, service):
            passing = asyncio.ensure_future(exchange(inside, outside, Traffic()))
            service[1].write_eof()
            assert await agent[0].read() == b""
            outside[1].transport.abort()
            agent[1].write_eof()
            await passing

    run(scene())


async def test_the_first_that_accepts_is_taken_and_none_is_an_error() -> None:
    async with asyncio.timeout(30), place(echo) as port:
        async with connected(["127.0.0.2", "127.0.0.1"], port) as (reader, writer):
            writer.write_eof()
            assert await reader.read() == b""
        with pytest.raises(OSError):
            async with connected(["127.0.0.1"], closed_port()):
                pass
        with pytest.raises(ConnectionError, match="nothing"):
            async with connected([], port):
                pass


@on_both_loops
def test_an_accepted_connection_delivers_its_last_bytes_and_is_closed(run: Run) -> None:
    async def scene() -> None:
        near, far = socket.socketpair()
        async with asyncio.timeout(30):
            async with streams(near) as (_, writer):
                writer.write(b"last")
            reader, other = await asyncio.open_connection(sock=far)
            assert await reader.read() == b"last"
            other.close()

    run(scene())


def test_figures_are_plain_data() -> None:
    traffic = Traffic(connections=1, sent_bytes=2, received_bytes=3)
    traffic.refuse()
    assert traffic.document() == {"connections": 1, "refused": 1, "sent_bytes": 2, "received_bytes": 3}
