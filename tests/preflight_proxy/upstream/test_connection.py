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

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.upstream.client import NotSentError, UncertainError, Upstream, read_capped
from preflight_proxy.upstream.connection import PIECES_MAX, BrokenAnswerError, TimeLimit, UpstreamConnection
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


# How an answer ends, and what is none


SSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"


@on_both_loops
@pytest.mark.parametrize(
    "answer",
    [
        SSE.replace(b"2\r\n", b'2;a=b;c="d"\r\n') + b"0\r\n\r\n",
        SSE + b"0\r\nX-Generation-Id: gen-trailer\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\n" * 3 + OK,
    ],
    ids=["extensions", "trailers", "HTTP/1.0 with keep-alive", "interim heads"],
)
def test_an_answer_is_read_to_its_end_and_its_connection_is_used_again(run: Run, answer: bytes) -> None:
    async def scene() -> None:
        async with Server(answer) as server, Upstream(server.base_url) as upstream:
            first = await upstream.post("/x", b"{}", [], lambda: True)
            assert await read_capped(first, 2**20) == b"{}"
            assert "gen-trailer" not in str(first.headers)
            assert await posted(upstream) == b"{}"
            assert server.connections_count == 1

    run(scene())


@on_both_loops
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["HTTP/1.0", "close"],
)
def test_a_connection_that_upstream_will_close_is_not_used_again(run: Run, answer: bytes) -> None:
    async def scene() -> None:
        async with Server(answer) as server, Upstream(server.base_url) as upstream:
            assert await posted(upstream) == b"{}"
            assert await posted(upstream) == b"{}"
            assert server.connections_count == 2

    run(scene())


async def answered(raw: bytes, then: bool = False) -> tuple[int, bytes, BrokenAnswerError | None]:
    """What one request is answered by: its status, its body, and how it broke off. The connection is closed if not `then`."""

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(raw)
        return then

    body = bytearray()
    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        answer = await upstream.post("/x", b"{}", [], lambda: True)
        try:
            await answer.pour(body.extend)
        except BrokenAnswerError as exc:
            return answer.status, bytes(body), exc
        finally:
            answer.close()
        return answer.status, bytes(body), None


@on_both_loops
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_body_without_a_length_ends_with_its_connection(run: Run, head: bytes) -> None:
    async def scene() -> None:
        assert await answered(head + b"{}") == (200, b"{}", None)

    run(scene())


@on_both_loops
@pytest.mark.parametrize(
    ("start", "body"),
    [(OK[:-1], b"{"), (SSE, b"{}"), (SSE + b"0\r\n", b"{}"), (SSE + b"0\r\nA: b\r\n", b"{}")],
)
def test_a_body_that_ends_too_early_is_broken_and_what_came_is_given(run: Run, start: bytes, body: bytes) -> None:
    async def scene() -> None:
        status, received, error = await answered(start)
        assert (status, received) == (200, body)
        assert error is not None

    run(scene())


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_can_have_no_body_has_none(status: int) -> None:
    raw = b"HTTP/1.1 %d None\r\n\r\n" % status
    assert await answered(raw, then=True) == (status, b"", None)


NO_ANSWERS = {
    "interim heads without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    "interim heads and the end": b"HTTP/1.1 100 Continue\r\n\r\n",
    "too many headers": OK.replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * 130 + b"\r\n"),
    "a large head": OK.replace(b"\r\n\r\n", b"\r\nA: " + b"a" * 66_000 + b"\r\n\r\n"),
    "a header name without end": b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
    "another version": OK.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "no status": OK.replace(b"200", b"000"),
    "a folded header": OK.replace(b"\r\n\r\n", b"\r\nA: b\r\n c\r\n\r\n"),
    "bare line ends": OK.replace(b"\r\n", b"\n"),
    "two lengths": OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"),
    "a length and chunks": SSE.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n") + b"0\r\n\r\n",
    "an encoding that nobody asked for": SSE.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
    "an encoding without an end": SSE.replace(b"chunked", b"chunked, gzip"),
    "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK,
    "an upgrade to nothing": b"HTTP/1.1 101 Switching\r\n\r\n" + OK,
    "a request": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
}


@on_both_loops
@pytest.mark.parametrize("raw", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_leaves_the_call_uncertain(run: Run, raw: bytes) -> None:
    async def scene() -> None:
        with pytest.raises(UncertainError):
            await answered(raw)

    run(scene())


@pytest.mark.parametrize("flood", [b"1;" + b"a" * 2**20, b"0\r\n" + b"a" * 2**20, b"0\r\n" + b"A: b\r\n" * 2**18])
async def test_a_body_that_goes_on_without_content_is_broken(flood: bytes) -> None:
    status, body, error = await answered(SSE + flood, then=True)
    assert (status, body) == (200, b"{}")
    assert "malformed" in str(error)


async def test_an_answer_that_comes_byte_by_byte_is_the_same() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + SSE.replace(b"2\r\n", b"2;a=b\r\n") + b"0\r\nX: y\r\n\r\n"
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    idle: list[UpstreamConnection] = []
    _, connection = await loop.create_connection(lambda: UpstreamConnection(ours, idle, set()), sock=ours)
    answer = connection.send(b"", b"", TimeLimit())
    for byte in raw:
        connection.data_received(bytes([byte]))
    body = await read_capped(answer, 2**20)
    assert (answer.status, body, idle) == (200, b"{}", [connection])
    connection.abort()
    theirs.close()


@on_both_loops
def test_an_answer_that_breaks_off_while_nobody_reads_it_is_read_up_to_there(run: Run) -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: UpstreamConnection(ours, [], set()), sock=ours)
        answer = connection.send(b"", b"", TimeLimit())
        connection.data_received(SSE + b"1\r\nx\r\n" * (PIECES_MAX + 1))
        connection.abort()
        await asyncio.sleep(0.01)
        parts: list[bytes] = []
        with pytest.raises(BrokenAnswerError, match="connection lost"):
            await answer.pour(parts.append)
        assert parts == [b"{}" + b"x" * (PIECES_MAX + 1)]
        theirs.close()

    run(scene())


class ChokedError(Exception):
    """Whoever takes the body can take no more."""


@on_both_loops
@pytest.mark.parametrize("ends", [False, True])
def test_who_cannot_take_a_part_ends_the_answer_and_gets_the_reason(run: Run, ends: bool) -> None:
    """The connection is closed, unless the answer was over."""

    async def scene() -> None:
        async with Server(CHUNKED if ends else SSE) as server, Upstream(server.base_url) as upstream:
            answer = await upstream.post("/x", b"{}", [], lambda: True)
            with pytest.raises(ChokedError):
                await answer.pour(choke)
            if not ends:
                async with asyncio.timeout(30):
                    await server.ended.wait()
            assert await posted(upstream) == b"{}"
            assert server.connections_count == (1 if ends else 2)

    def choke(_part: bytes) -> None:
        raise ChokedError

    run(scene())


@on_both_loops
def test_what_comes_too_late_breaks_its_answer_off_and_is_not_given(run: Run) -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: UpstreamConnection(ours, [], set()), sock=ours)
        limit, parts = TimeLimit(), list[bytes]()
        answer = connection.send(b"", b"", limit)
        connection.data_received(SSE)
        limit.end_in(0)
        connection.data_received(b"1\r\nx\r\n0\r\n\r\n")
        with pytest.raises(BrokenAnswerError, match="time is over"):
            await answer.pour(parts.append)
        assert parts == [b"{}"]
        theirs.close()

    run(scene())


@on_both_loops
def test_an_answer_that_nobody_reads_waits_in_the_systems_buffers(run: Run) -> None:
    """And it arrives whole when somebody does."""
    size_bytes = 160 * 2**20

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes)
        part = b"x" * 2**20
        for number in range(size_bytes // len(part)):
            written.append(number)
            writer.write(part)
            await writer.drain()
        return True

    async def scene() -> None:
        async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
            answer = await upstream.post("/x", b"{}", [], lambda: True)
            count = -1
            while len(written) > count:  # until the writer waits
                count = len(written)
                await asyncio.sleep(0.2)
            assert count < 120
            sizes_bytes: list[int] = []
            await answer.pour(lambda part: sizes_bytes.append(len(part)))
            assert sum(sizes_bytes) == size_bytes

    written: list[int] = []
    run(scene())


@on_both_loops
def test_a_connection_is_not_used_again_whose_request_was_answered_before_it_had_left(run: Run) -> None:
    """What is still unsent would be the beginning of the next request."""

    async def scene() -> None:
        async with RawUpstream(head_only=True) as server, Upstream(server.base_url) as upstream:
            answer = await upstream.post("/x", b"x" * 2**24, [], lambda: True)
            assert await read_capped(answer, 2**20) == b"{}"
            assert await posted(upstream) == b"{}"
            assert server.connections_count == 2

    run(scene())


@on_both_loops
def test_an_answer_that_is_closed_before_its_end_closes_its_connection(run: Run) -> None:
    async def scene() -> None:
        async with Server(SSE) as server, Upstream(server.base_url) as upstream:
            answer = await upstream.post("/x", b"{}", [], lambda: True)
            answer.close()
            answer.close()
            async with asyncio.timeout(30):
                await server.ended.wait()
            assert await posted(upstream) == b"{}"

    run(scene())


@pytest.mark.parametrize("name", ["X\r\nAuthorization", "X\nY", "X\0"])
async def test_a_header_that_would_end_its_line_is_not_sent(name: str) -> None:
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        with pytest.raises(ValueError, match="line break"):
            await upstream.post("/x", b"{}", [(name, "a")], lambda: True)
        with pytest.raises(ValueError, match="line break"):
            await upstream.post("/x HTTP/1.1\r\nA: b", b"{}", [], lambda: True)
        assert server.connections_count == 0


async def test_a_read_on_an_idle_connection_that_breaks_off_is_made_again_once() -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        return await answer_ok(writer, number) if number in (1, 3) else False

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        for _ in range(2):
            assert await upstream.get("/key") == (200, b"{}")
        with pytest.raises(UpstreamError):
            await upstream.get("/key")
        assert len(server.requests) == 5
