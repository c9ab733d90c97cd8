"""The limits of a listener, and what malformed HTTP gets: real sockets, bytes written by hand."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from preflight_proxy.server.connection import FIELD_BYTES_MAX
from preflight_proxy.server.http_server import Handler
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.raw_http import Raw, is_error

pytestmark = pytest.mark.wire

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Seen:
    """A handler that answers with what it saw, and remembers it."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: ServerRequest) -> None:
        self.begun.set()
        body = b""
        while piece := await request.read_piece():
            body += piece
        self.requests.append((request.method, request.target, body))
        request.response.answer(200, [], f"{request.target} {len(body)}".encode())


Serve = Callable[..., Awaitable[int]]


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    made = Listeners(head_s_max=60.0)
    yield made
    await made.close()


@pytest.fixture
def serve(listeners: Listeners) -> Serve:
    """Serve a handler on a free port."""

    async def on_port(handler: Handler, connections_max: int = 16) -> int:
        return (await listeners.on_tcp(handler, "127.0.0.1", 0, connections_max))[1]

    return on_port


async def test_a_surplus_connection_is_closed_at_accept_and_the_others_go_on(serve: Serve) -> None:
    port = await serve(Seen().handle, 2)
    async with await Raw.to(port) as first, await Raw.to(port) as second:
        for connection in (first, second):
            connection.send(GET % 1)
            assert (await connection.answer())[0] == 200
        async with await Raw.to(port) as surplus:
            assert await surplus.ended()
        first.send(GET % 2)
        assert (await first.answer())[2] == b"/2 0"


async def test_a_place_that_was_left_is_free_again(serve: Serve) -> None:
    port = await serve(Seen().handle, 1)
    for number in range(3):
        async with asyncio.timeout(30):
            while not await _is_served(port, number):
                await asyncio.sleep(0)


async def _is_served(port: int, number: int) -> bool:
    async with await Raw.to(port) as connection:
        connection.send(GET % number)
        try:
            return (await connection.answer())[0] == 200
        except (asyncio.IncompleteReadError, ConnectionError):
            return False


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_connection_with_a_slow_head_is_closed(sent: bytes) -> None:
    seen, listeners = Seen(), Listeners(head_s_max=0.05)
    _, port = await listeners.on_tcp(seen.handle, "127.0.0.1", 0)
    async with await Raw.to(port) as connection:
        connection.send(sent)
        assert await connection.ended()
    assert seen.requests == []
    await listeners.close()


async def test_a_slow_second_head_is_closed_too() -> None:
    seen, listeners = Seen(), Listeners(head_s_max=1.0)
    _, port = await listeners.on_tcp(seen.handle, "127.0.0.1", 0)
    async with await Raw.to(port) as connection:
        connection.send(GET % 1)
        assert (await connection.answer())[0] == 200
        connection.send(b"GET /2 HT")
        assert await connection.ended()
    await listeners.close()


async def test_body_and_answer_may_take_longer_than_a_head() -> None:
    """Another connection, made once the body has begun, and without a head, is closed before it ends."""
    seen, listeners = Seen(), Listeners(head_s_max=1.0)
    _, port = await listeners.on_tcp(seen.handle, "127.0.0.1", 0)
    async with await Raw.to(port) as connection:
        connection.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        await seen.begun.wait()
        async with await Raw.to(port) as dawdler:
            assert await dawdler.ended()
        connection.send(b"b")
        assert (await connection.answer())[2] == b"/slow 2"
    await listeners.close()


MALFORMED = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "method of its own": b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "nul in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "length twice": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 33\r\n\r\na",
    "the same length twice": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length of signs": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\na",
    "endless length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\na",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoding that is no chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks not last": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "header too long": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (FIELD_BYTES_MAX + 1) + b"\r\n\r\n",
    "target too long": b"GET /" + b"a" * (FIELD_BYTES_MAX + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "too many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_http_gets_a_json_400_and_nothing_after_it_is_read(serve: Serve, name: str) -> None:
    """Where the parser's and another's idea of a body could differ, no second request is taken from the rest."""
    seen = Seen()
    async with await Raw.to(await serve(seen.handle)) as connection:
        connection.send(MALFORMED[name] + GET % 2)
        status, headers, body = await connection.answer()
        assert (status, headers["content-type"]) == (400, "application/json")
        assert is_error(body, 400)
        assert await connection.ended()
    assert seen.requests == []


async def test_a_chunk_without_a_size_ends_the_connection_unread(serve: Serve) -> None:
    seen = Seen()
    async with await Raw.to(await serve(seen.handle)) as connection:
        connection.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /2 HTTP/1.1\r\n\r\n"
        )
        status, _, body = await connection.answer()
        assert is_error(body, status)
        assert await connection.ended()
    assert seen.requests == []


async def test_pipelined_requests_are_answered_in_their_order(serve: Serve) -> None:
    seen = Seen()
    async with await Raw.to(await serve(seen.handle)) as connection:
        connection.send(b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        connection.send(b"".join(GET % number for number in range(1, 300)))
        answers = [(await connection.answer())[2] for _ in range(300)]
    assert answers == [b"/0 3", *(b"/%d 0" % number for number in range(1, 300))]


async def test_chunks_are_taken_together(serve: Serve) -> None:
    async with await Raw.to(await serve(Seen().handle)) as connection:
        connection.send(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + GET % 2)
        assert (await connection.answer())[2] == b"/c 5"
        assert (await connection.answer())[2] == b"/2 0"


async def test_compressed_bodies_stay_as_they_came(serve: Serve) -> None:
    seen = Seen()
    async with await Raw.to(await serve(seen.handle)) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
        await connection.answer()
    assert seen.requests == [("POST", "/", b"abcd")]


async def test_closing_ends_connections_and_frees_the_port(listeners: Listeners) -> None:
    _, port = await listeners.on_tcp(Seen().handle, "127.0.0.1", 0)
    async with await Raw.to(port) as connection:
        connection.send(GET % 1)
        await connection.answer()
        await listeners.close()
        assert await connection.ended()
    with pytest.raises(ConnectionRefusedError):
        await Raw.to(port)


# Unix sockets


async def test_a_unix_socket_has_the_mode_it_was_given(listeners: Listeners, tmp_path: Path) -> None:
    for mode in (0o600, 0o666):
        path = tmp_path / f"{mode:o}.sock"
        await listeners.on_unix(Seen().handle, path, mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert await _asked(path) == "/y 0"


async def _asked(path: Path) -> str:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
        client.get("http://x/y") as got,
    ):
        return await got.text()


async def test_a_socket_that_a_dead_process_left_is_replaced(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await listeners.on_unix(Seen().handle, path)
    assert await _asked(path) == "/y 0"


async def test_a_socket_that_somebody_listens_on_is_not_taken_over(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        with pytest.raises(FileExistsError, match="listens"):
            await listeners.on_unix(Seen().handle, path)
        assert path.is_socket()


async def test_a_file_is_never_replaced_by_a_socket(listeners: Listeners, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="no socket"):
        await listeners.on_unix(Seen().handle, path)
    assert path.read_text() == "mine"


async def test_a_handed_in_socket_has_its_own_limit_and_stops_alone(listeners: Listeners) -> None:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.setblocking(False)
    stopped, other = [await listeners.on_connections(Seen().handle, sock, connections_max=2) for sock in socks]
    async with await Raw.to(ports[0]) as first, await Raw.to(ports[0]) as second, await Raw.to(ports[1]) as third:
        for connection in (first, second, third):
            connection.send(GET % 1)
            assert (await connection.answer())[0] == 200
        async with await Raw.to(ports[0]) as surplus:
            assert await surplus.ended()
        await stopped.stop()
        assert await first.ended()
        assert await second.ended()
        third.send(GET % 1)
        assert (await third.answer())[0] == 200
    await other.stop()
    for sock in socks:
        sock.close()
