"""No call is ever given bytes that upstream sent before it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog
import uvloop

from preflight_proxy.upstream.client import NotSentError, UncertainError, Upstream, read_capped
from preflight_proxy.upstream.pool import Pool
from tests.support.raw_upstream import OK, RawUpstream, answer_ok

pytestmark = pytest.mark.wire

STRAY = b'HTTP/1.1 200 OK\r\nX-Generation-Id: gen-stray\r\nContent-Length: 7\r\n\r\n"stray"'
HTTP = [STRAY, STRAY + STRAY, STRAY[:1], STRAY[:30], STRAY[:-3], b"HTTP/1.1 100 Continue\r\n\r\n"]
STRAYS = [*HTTP, b"\x00", b"0\r\n\r\n", b"\r\n"]
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class Server(RawUpstream):
    """Answers each request with `first`, then with nothing but the usual; keeps the last connection's writer."""

    def __init__(self, first: bytes) -> None:
        super().__init__(self._answer)
        self._first = first
        self.writer: asyncio.StreamWriter | None = None

    async def _answer(self, writer: asyncio.StreamWriter, number: int) -> bool:
        self.writer = writer
        if number > 1:
            return await answer_ok(writer, number)
        writer.write(self._first)
        return True

    def send_at_once(self, data: bytes) -> None:
        """Into the kernel, within this turn of the loop: nobody has read it yet."""
        assert self.writer is not None
        os.write(self.writer.get_extra_info("socket").fileno(), data)


async def posted(upstream: Upstream) -> bytes:
    answer = await upstream.post("/x", b"{}", [("Content-Type", "application/json")], lambda: True)
    return await read_capped(answer, 2**20)


def complaints(logs: list[Any]) -> int:
    return sum(1 for line in logs if line["log_level"] == "error" and line["event"] == "upstream.unasked_bytes")


@on_both_loops
@pytest.mark.parametrize("stray", HTTP)
@pytest.mark.parametrize("answer", [OK, CHUNKED, EMPTY], ids=["length", "chunked", "empty"])
def test_bytes_that_come_with_an_answers_end_close_the_connection(run: Run, answer: bytes, stray: bytes) -> None:
    async def scene() -> None:
        async with Server(answer + stray) as server, Upstream(server.base_url) as upstream:
            with structlog.testing.capture_logs() as logs:
                assert await posted(upstream) == (b"" if answer is EMPTY else b"{}")
                assert await posted(upstream) == b"{}"
                assert (server.connections_count, complaints(logs)) == (2, 1)

    run(scene())


async def test_an_answer_that_goes_on_as_no_http_at_all_is_no_answer() -> None:
    async with Server(OK + b"\x00") as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UncertainError):
            await posted(upstream)
        assert await posted(upstream) == b"{}"
        assert (len(server.requests), server.connections_count) == (2, 2)


@on_both_loops
@pytest.mark.parametrize("stray", STRAYS)
def test_bytes_that_come_while_a_connection_is_idle_close_it_at_once(run: Run, stray: bytes) -> None:
    async def scene() -> None:
        async with Server(OK) as server, Upstream(server.base_url) as upstream:
            with structlog.testing.capture_logs() as logs:
                assert await posted(upstream) == b"{}"
                server.send_at_once(stray)
                async with asyncio.timeout(30):
                    await server.ended.wait()
                assert complaints(logs) == 1
            assert await posted(upstream) == b"{}"
            assert (len(server.requests), server.connections_count) == (2, 2)

    run(scene())


@on_both_loops
@pytest.mark.parametrize("stray", STRAYS)
def test_bytes_that_nobody_has_read_yet_count_as_well(run: Run, stray: bytes) -> None:
    """They arrived in the very turn in which the connection would be used again."""

    async def scene() -> None:
        async with Server(OK) as server, Upstream(server.base_url) as upstream:
            with structlog.testing.capture_logs() as logs:
                assert await posted(upstream) == b"{}"
                server.send_at_once(stray)
                assert await posted(upstream) == b"{}"
                assert (server.connections_count, complaints(logs)) == (2, 1)

    run(scene())


async def test_every_connection_in_the_pool_is_looked_at() -> None:
    """Else a second bad one would be met by the last attempt of a call."""
    together, writers = asyncio.Event(), []

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        writers.append(writer)
        if number == 4:
            together.set()
        await together.wait()
        return await answer_ok(writer, number)

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        await asyncio.gather(*(posted(upstream) for _ in range(4)))
        for writer in writers[:4]:
            os.write(writer.get_extra_info("socket").fileno(), STRAY)
        assert await posted(upstream) == b"{}"
        assert (len(server.requests), server.connections_count) == (5, 5)


async def test_a_connection_that_ends_in_the_very_turn_is_not_used_and_that_is_no_error() -> None:
    async with Server(OK) as server, Upstream(server.base_url) as upstream:
        with structlog.testing.capture_logs() as logs:
            assert await posted(upstream) == b"{}"
            assert server.writer is not None
            with socket.socket(fileno=os.dup(server.writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_WR)
            assert await posted(upstream) == b"{}"
        assert (len(server.requests), server.connections_count, complaints(logs)) == (2, 2, 0)


@on_both_loops
def test_an_upstream_that_speaks_first_is_sent_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its greeting arrives before the connection is looked at for the first time."""
    greeted, over, sent = asyncio.Event(), asyncio.Event(), bytearray()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STRAY)
        greeted.set()
        with contextlib.suppress(ConnectionError):
            sent.extend(await reader.read())
        writer.close()
        over.set()

    async def connected_late(pool: Pool, loop: asyncio.AbstractEventLoop) -> socket.socket:
        sock = await connected(pool, loop)
        await greeted.wait()
        return sock

    async def scene() -> None:
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            async with Upstream(f"http://{host}:{port}") as upstream:
                with structlog.testing.capture_logs() as logs, pytest.raises(NotSentError):
                    await posted(upstream)
                await over.wait()
        assert (bytes(sent), complaints(logs)) == (b"", 1)

    connected = Pool._socket
    monkeypatch.setattr(Pool, "_socket", connected_late)
    run(scene())


async def test_reads_are_given_no_stray_answer_either() -> None:
    async with Server(OK) as server, Upstream(server.base_url) as upstream:
        assert await upstream.get("/key") == (200, b"{}")
        server.send_at_once(STRAY)
        assert await upstream.get("/key") == (200, b"{}")
        assert server.connections_count == 2


async def test_an_answer_with_news_ahead_of_it_is_no_stray() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with Server(early + OK) as server, Upstream(server.base_url) as upstream:
        for _ in range(3):
            assert await posted(upstream) == b"{}"
        assert server.connections_count == 1
