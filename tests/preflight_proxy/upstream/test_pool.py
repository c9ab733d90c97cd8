"""Connections are made directly or through an HTTP proxy, with TLS that is checked, and no idle one is kept for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent_preflight.environment.authority import Authority
from preflight_proxy.core.environment_proxy import HttpProxy
from preflight_proxy.core.errors import ConfigError, UpstreamError
from preflight_proxy.server.certificate import tls_context
from preflight_proxy.upstream import pool
from preflight_proxy.upstream.client import NotSentError, Upstream, read_capped
from preflight_proxy.upstream.connection import BrokenAnswerError
from preflight_proxy.upstream.pool import Pool
from tests.support.raw_upstream import RawUpstream
from tests.support.tls import new_authority

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def never() -> bool:
    raise AssertionError("no byte may leave")


async def posted(upstream: Upstream, guard: Callable[[], bool] = lambda: True) -> bytes:
    answer = await upstream.post("/x", b"{}", [], guard)
    return await read_capped(answer, 2**20)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that signed a certificate for openrouter.ai, and that this process trusts."""
    made = new_authority()
    (tmp_path / "roots.pem").write_text(made.root)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    return made


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets every host name lead to a port of 127.0.0.1."""
    port = 0

    def lead(to: int) -> None:
        nonlocal port
        port = to

    async def connected(_pool: Pool, loop: asyncio.AbstractEventLoop) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        return sock

    monkeypatch.setattr(Pool, "_socket", connected)
    return lead


# TLS


@on_both_loops
def test_requests_over_tls_share_a_connection(run: Run, authority: Authority, leads_to: Callable[[int], None]) -> None:
    async def scene() -> None:
        tls = tls_context(authority.certificate, authority.key)
        async with RawUpstream(tls=tls) as server, Upstream("https://openrouter.ai/api/v1") as upstream:
            leads_to(server.port)
            for _ in range(3):
                assert await posted(upstream) == b"{}"
            assert (len(server.requests), server.connections_count) == (3, 1)
            assert dict(server.headers())["host"] == "openrouter.ai"

    run(scene())


@on_both_loops
@pytest.mark.parametrize("host", ["openrouter.test", "127.0.0.1"])
def test_a_certificate_for_another_name_is_not_sent_to(
    run: Run, host: str, authority: Authority, leads_to: Callable[[int], None]
) -> None:
    async def scene() -> None:
        tls = tls_context(authority.certificate, authority.key)
        async with RawUpstream(tls=tls) as server, Upstream(f"https://{host}/api/v1") as upstream:
            leads_to(server.port)
            with pytest.raises(NotSentError):
                await posted(upstream, never)
            assert server.bytes_count == 0

    run(scene())


@on_both_loops
def test_a_certificate_that_nobody_trusts_is_not_sent_to(
    run: Run, authority: Authority, leads_to: Callable[[int], None]
) -> None:
    async def scene() -> None:
        other = new_authority()
        tls = tls_context(other.certificate, other.key)
        async with RawUpstream(tls=tls) as server, Upstream("https://openrouter.ai/api/v1") as upstream:
            leads_to(server.port)
            with pytest.raises(NotSentError):
                await posted(upstream, never)
            with pytest.raises(UpstreamError, match="SSLCertVerificationError"):
                await upstream.get("/key", "sk-or-v1-x")
            assert server.bytes_count == 0

    assert authority.root
    run(scene())


@on_both_loops
@pytest.mark.parametrize("in_order", [True, False], ids=["close_notify", "a bare end of TCP"])
def test_a_body_without_a_length_ends_with_tls_not_with_tcp(
    run: Run, in_order: bool, authority: Authority, leads_to: Callable[[int], None]
) -> None:
    """Anybody on the way can end a TCP connection."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        tls = tls_context(authority.certificate, authority.key).wrap_socket(client, server_side=True)
        received = b""
        while not received.endswith(b"{}"):
            received += tls.recv(65536)
        tls.sendall(b"HTTP/1.1 200 OK\r\n\r\nbody")
        if in_order:
            with contextlib.suppress(OSError):
                tls.unwrap()
        os.close(tls.detach())

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(asyncio.to_thread(serve, listener))
            leads_to(listener.getsockname()[1])
            async with Upstream("https://openrouter.ai/api/v1") as upstream:
                answer = await upstream.post("/x", b"{}", [], lambda: True)
                parts: list[bytes] = []
                with contextlib.nullcontext() if in_order else pytest.raises(BrokenAnswerError):
                    await answer.pour(parts.append)
                assert b"".join(parts) == b"body"
            await serving

    run(scene())


# Idle connections


async def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_CONNECTION_S", -1.0)
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        for _ in range(2):
            assert await posted(upstream) == b"{}"
        assert server.connections_count == 2


async def test_an_idle_connection_is_closed_though_nobody_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_CONNECTION_S", -1.0)
    async with RawUpstream() as server, Upstream(server.base_url, head_s_max=0.1) as upstream:
        assert await posted(upstream) == b"{}"
        async with asyncio.timeout(30):
            await server.ended.wait()


async def test_at_the_end_every_connection_is_closed() -> None:
    async with RawUpstream() as server:
        async with Upstream(server.base_url) as upstream:
            assert await posted(upstream) == b"{}"
        async with asyncio.timeout(30):
            await server.ended.wait()


# Unreachable


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "a..test", "[::ffff:0:0]:9"])
async def test_a_name_that_leads_nowhere_was_sent_nothing(host: str) -> None:
    async with Upstream(f"http://{host}/api/v1") as upstream:
        with pytest.raises(NotSentError):
            await posted(upstream, never)
        with pytest.raises(UpstreamError):
            await upstream.get("/models")


@pytest.mark.parametrize("port", ["99999", "x"])
def test_a_port_that_cannot_be_is_an_error_of_the_settings(port: str) -> None:
    with pytest.raises(ConfigError, match="port"):
        Upstream(f"http://127.0.0.1:{port}/api/v1")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore",
        b"SSH-2.0 200 x\r\n\r\n",
        b"\x00" * 2**16,
    ],
    ids=["nothing", "login", "interim", "bytes behind it", "no http", "an endless head"],
)
async def test_a_proxy_that_opens_no_tunnel_was_sent_no_request(answer: bytes) -> None:
    received = bytearray()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if not answer:
            writer.close()
        received.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        proxy = HttpProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None, "https_proxy")
        async with Upstream("https://openrouter.ai/api/v1", proxy) as upstream:
            with pytest.raises(NotSentError):
                await posted(upstream, never)
    assert bytes(received) == b"CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n"
