"""An inference request leaves once or not at all, and what is said about it is true (M11, M13)."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.upstream.client import (
    HEADS_MAX,
    SMALL_BODY_BYTES_MAX,
    NotSentError,
    OverdueError,
    UncertainError,
    Upstream,
    WithdrawnError,
    read_capped,
)
from tests.support.raw_upstream import OK, RawUpstream, answer_ok

pytestmark = pytest.mark.wire

PATH = "/chat/completions"
HEADERS = [
    ("Authorization", "Bearer sk-or-v1-x"),
    ("Accept-Encoding", "identity"),
    ("Content-Type", "application/json"),
]
BODY = b'{"model":"m"}'

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def yes() -> bool:
    return True


class Asked:
    """A guard that agrees, and counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bool:
        self.times += 1
        return True


async def posted(upstream: Upstream, body: bytes = BODY, guard: Callable[[], bool] = yes) -> tuple[int, bytes]:
    """Send one request and read its answer whole."""
    answer = await upstream.post(PATH, body, HEADERS, guard)
    return answer.status, await read_capped(answer, 2**20)


# Sent once


@on_both_loops
def test_a_post_is_not_sent_again_when_a_kept_connection_closes_as_it_arrives(run: Run) -> None:
    """The outcome is unknown, so neither aiohttp nor we send it a second time."""

    async def scene() -> None:
        async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
            return await answer_ok(writer, number) if number == 1 else False

        async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
            assert await posted(upstream) == (200, b"{}")
            with pytest.raises(UncertainError):
                await posted(upstream)
            assert await posted_is_refused(upstream)
            assert server.heads() == [f"POST /api/v1{PATH} HTTP/1.1"] * 3

    async def posted_is_refused(upstream: Upstream) -> bool:
        with pytest.raises(UncertainError):
            await posted(upstream)
        return True

    run(scene())


async def test_a_kept_connection_that_closed_before_is_replaced_and_the_request_arrives_once() -> None:
    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        await answer_ok(writer, number)
        return number != 1

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        await posted(upstream)
        await server.ended.wait()
        guard = Asked()
        assert await posted(upstream, guard=guard) == (200, b"{}")
        assert (len(server.requests), server.connections_count, guard.times) == (2, 2, 1)


async def test_a_kept_connection_is_used_again() -> None:
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        for _ in range(3):
            await posted(upstream)
        assert (len(server.requests), server.connections_count) == (3, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "half a head", "no http", "an endless head"],
)
async def test_a_request_without_a_whole_head_in_answer_may_be_charged(answer: bytes) -> None:
    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(answer)
        return False

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UncertainError):
            await posted(upstream)
        assert len(server.requests) == 1


async def test_a_request_that_broke_off_half_way_may_be_charged() -> None:
    async def behave(_writer: asyncio.StreamWriter, _number: int) -> bool:
        return False

    guard = Asked()
    async with RawUpstream(behave, head_only=True) as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UncertainError):
            await posted(upstream, b"x" * 2**23, guard)
        assert 0 < server.bytes_count < 2**23
    assert guard.times == 1


async def test_a_head_that_never_comes_ends_the_call() -> None:
    async def behave(_writer: asyncio.StreamWriter, _number: int) -> bool:
        await asyncio.Event().wait()
        return False

    async with RawUpstream(behave) as server, Upstream(server.base_url, head_s_max=0.05) as upstream:
        with pytest.raises(OverdueError):
            await posted(upstream)
        assert len(server.requests) == 1


async def test_a_cancelled_request_is_not_sent_again() -> None:
    arrived = asyncio.Event()

    async def behave(_writer: asyncio.StreamWriter, _number: int) -> bool:
        arrived.set()
        await asyncio.Event().wait()
        return False

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        sending = asyncio.ensure_future(posted(upstream))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert len(server.requests) == 1


# Not sent


@on_both_loops
def test_nothing_is_written_before_the_guard_agrees(run: Run) -> None:
    async def scene() -> None:
        async with RawUpstream() as server, Upstream(server.base_url) as upstream:
            with pytest.raises(WithdrawnError):
                await posted(upstream, guard=lambda: False)
            await server.ended.wait()
            assert (server.connections_count, server.bytes_count) == (1, 0)
            assert await posted(upstream) == (200, b"{}")

    run(scene())


async def test_nothing_is_written_on_a_kept_connection_either() -> None:
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        await posted(upstream)
        before = server.bytes_count
        with pytest.raises(WithdrawnError):
            await posted(upstream, guard=lambda: False)
        await server.ended.wait()
        assert (server.bytes_count, len(server.requests)) == (before, 1)


async def test_the_guard_is_asked_once_and_before_the_first_byte() -> None:
    """In the guard's turn of the loop the kernel has been given nothing: head and body leave together after it."""
    seen: list[int] = []

    async with RawUpstream() as server, Upstream(server.base_url) as upstream:

        def guard() -> bool:
            seen.append(server.bytes_count + server.waiting_bytes())
            return True

        await posted(upstream, guard=guard)
    assert seen == [0]


async def test_an_upstream_that_cannot_be_reached_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    guard = Asked()
    async with Upstream(f"http://127.0.0.1:{port}/api/v1") as upstream:
        with pytest.raises(NotSentError):
            await posted(upstream, guard=guard)
    assert guard.times == 0


async def test_an_upstream_without_a_name_was_sent_nothing() -> None:
    async with Upstream("http://nowhere.invalid/api/v1") as upstream:
        with pytest.raises(NotSentError):
            await posted(upstream)


async def test_a_handshake_that_fails_is_not_sent() -> None:
    async def speak_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    guard = Asked()
    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Upstream(f"https://127.0.0.1:{port}/api/v1") as upstream:
            with pytest.raises(NotSentError):
                await posted(upstream, guard=guard)
    assert guard.times == 0


def test_not_sent_is_what_withdrawn_is_and_uncertain_is_not() -> None:
    assert issubclass(WithdrawnError, NotSentError)
    assert not issubclass(UncertainError, NotSentError)
    assert issubclass(NotSentError, UpstreamError)


# What leaves, what comes back


async def test_each_request_leaves_with_its_own_path_headers_and_length() -> None:
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        for number in [*range(2 * HEADS_MAX), 0]:
            for path, key in ((PATH, "a"), (PATH, f"b{number}"), (f"{PATH}?{number}", "a")):
                body = b"x" * number
                answer = await upstream.post(path, body, [("Authorization", key), *HEADERS[1:]], yes)
                assert await read_capped(answer, 2) == b"{}"
                headers = dict(server.headers())
                assert server.heads()[-1] == f"POST /api/v1{path} HTTP/1.1"
                assert (headers["authorization"], headers["content-length"]) == (key, str(number))
                assert server.requests[-1].partition(b"\r\n\r\n")[2] == body
        assert len(upstream._heads) <= HEADS_MAX


async def test_body_and_headers_leave_as_they_are() -> None:
    body = b'{"a": "\xc3\xa9\\u00e9",  "n": 1.0e-7}'
    async with RawUpstream() as server, Upstream(server.base_url) as upstream:
        await upstream.post(PATH + "?beta=true", body, HEADERS, yes)
        assert server.heads() == [f"POST /api/v1{PATH}?beta=true HTTP/1.1"]
        assert server.requests[0].endswith(b"\r\n\r\n" + body)
        headers = server.headers()
    for name, value in HEADERS:
        assert [found for sent, found in headers if sent == name.lower()] == [value]
    assert dict(headers)["content-length"] == str(len(body))
    assert "transfer-encoding" not in dict(headers)
    assert "expect" not in dict(headers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with RawUpstream() as elsewhere:

        async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
            location = f"Location: {elsewhere.base_url}/stolen\r\n"
            writer.write(f"HTTP/1.1 {status} Moved\r\n{location}Content-Length: 0\r\n\r\n".encode())
            return True

        async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
            assert await posted(upstream) == (status, b"")
            assert await upstream.get("/key", "sk-or-v1-x") == (status, b"")
        assert elsewhere.connections_count == 0


async def test_an_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b"{}")

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
        )
        return True

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        assert await posted(upstream) == (200, packed)


async def test_cookies_are_not_kept() -> None:
    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))
        return True

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        await posted(upstream)
        await posted(upstream)
        assert "cookie" not in dict(server.headers())


# Small reads


async def test_a_read_is_authorised_only_with_a_key() -> None:
    async with RawUpstream() as server, Upstream(server.base_url + "/") as upstream:
        assert await upstream.get("/models") == (200, b"{}")
        assert "authorization" not in dict(server.headers())
        await upstream.get("/key", "sk-or-v1-x")
        assert dict(server.headers())["authorization"] == "Bearer sk-or-v1-x"
        assert dict(server.headers())["accept-encoding"] == "identity"
        assert server.heads()[-1] == "GET /api/v1/key HTTP/1.1"


async def test_a_read_that_breaks_off_says_what_was_read_and_nothing_secret() -> None:
    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        return False

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UpstreamError, match="/generation") as raised:
            await upstream.get("/generation?id=gen-1", "sk-or-v1-x")
    assert "gen-1" not in str(raised.value)
    assert "sk-or" not in str(raised.value)


async def test_a_read_larger_than_any_is_given_up() -> None:
    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SMALL_BODY_BYTES_MAX + 1))
        part = b" " * 2**20
        for _ in range(SMALL_BODY_BYTES_MAX // len(part) + 1):
            writer.write(part)
            await writer.drain()
        return False

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        with pytest.raises(UpstreamError, match="more than"):
            await upstream.get("/models")


async def test_a_read_that_cannot_be_made_is_an_error_of_upstream() -> None:
    async with Upstream("http://nowhere.invalid/api/v1") as upstream:
        with pytest.raises(UpstreamError):
            await upstream.get("/models")


async def test_the_last_of_equal_headers_counts() -> None:
    headers = b"\r\nX-Generation-Id: a\r\nEmpty:\r\nOther: \xc3\xa9\xff\r\nx-generation-id: c\r\n\r\n"

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        writer.write(OK.replace(b"\r\n\r\n", headers))
        return True

    async with RawUpstream(behave) as server, Upstream(server.base_url) as upstream:
        answer = await upstream.post(PATH, BODY, HEADERS, yes)
    assert (answer.header("x-generation-id"), answer.header("empty"), answer.header("none")) == ("c", "", None)
    assert answer.headers[2:] == [
        ("X-Generation-Id", "a"),
        ("Empty", ""),
        ("Other", "é\udcff"),
        ("x-generation-id", "c"),
    ]
