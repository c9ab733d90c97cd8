"""How large a request head may grow, whatever it is made of, and what all of them take: real sockets, bytes written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from preflight_proxy.server.heads import REQUEST_HEAD_BYTES_MAX, UnservedHeads
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.raw_http import Raw, is_error

pytestmark = pytest.mark.wire

GET = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
FIELD_BYTES = 30_000


def field(number: int, size_bytes: int = FIELD_BYTES) -> bytes:
    name = b"X-%d: " % number
    return name + b"a" * (size_bytes - len(name) - 2) + b"\r\n"


class Server:
    """A handler that answers with the size of the body it read; `/slow` waits for `go`."""

    def __init__(self, **heads: int) -> None:
        self.heads = UnservedHeads(**heads)
        self.listeners = Listeners(head_s_max=60.0, heads=self.heads)
        self.go = asyncio.Event()
        self.port = 0

    async def handle(self, request: ServerRequest) -> None:
        size_bytes = 0
        while piece := await request.read_piece():
            size_bytes += len(piece)
        if request.target == "/slow":
            await self.go.wait()
        request.response.answer(200, [], b"%d" % size_bytes)

    async def __aenter__(self) -> Server:
        self.port = (await self.listeners.on_tcp(self.handle, "127.0.0.1", 0))[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.listeners.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as made:
        yield made


async def held(server: Server, bytes_count: int) -> None:
    """Return once unserved heads take so much."""
    async with asyncio.timeout(30):
        while server.heads.total_bytes != bytes_count:
            await asyncio.sleep(0.001)


async def test_a_head_may_be_as_large_as_the_limit(server: Server) -> None:
    start = b"GET /1 HTTP/1.1\r\nHost: x\r\n"
    fields = [field(1), field(2)]
    rest_bytes = REQUEST_HEAD_BYTES_MAX - len(start) - sum(map(len, fields)) - 2
    async with await Raw.to(server.port) as agent:
        for _ in range(2):
            agent.send(start + b"".join(fields) + field(3, rest_bytes) + b"\r\n")
            assert (await agent.answer())[0] == 200
            await held(server, 0)


async def test_a_head_that_is_larger_is_a_431_and_nothing_after_it_is_read(server: Server) -> None:
    async with await Raw.to(server.port) as agent:
        agent.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n" + b"".join(field(each) for each in range(3)) + b"\r\n" + GET)
        status, headers, body = await agent.answer()
        assert (status, headers["connection"], is_error(body, 431)) == (431, "close", True)
        assert await agent.ended()
    await held(server, 0)


async def test_the_limit_is_on_the_sum_however_small_the_fields_and_the_writes(server: Server) -> None:
    async with await Raw.to(server.port) as agent:
        agent.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n")
        for number in range(120):
            agent.send(field(number, 700))
            await agent.writer.drain()
            await asyncio.sleep(0)
        assert (await agent.answer())[0] == 431
        assert await agent.ended()


async def test_the_second_head_of_a_connection_has_the_same_limit(server: Server) -> None:
    async with await Raw.to(server.port) as agent:
        agent.send(GET)
        assert (await agent.answer())[0] == 200
        agent.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n" + b"".join(field(each) for each in range(3)))
        assert (await agent.answer())[0] == 431
        assert await agent.ended()


async def test_trailers_have_the_limit_of_a_head(server: Server) -> None:
    """They are fields too, and are kept until the last has come."""
    async with await Raw.to(server.port) as agent:
        agent.send(CHUNKED + b"1\r\na\r\n0\r\n" + b"".join(field(each) for each in range(3)))
        assert await agent.ended()
    await held(server, 0)


async def test_a_head_behind_a_running_request_has_the_limit_too(server: Server) -> None:
    async with await Raw.to(server.port) as agent:
        agent.send(SLOW + b"GET /1 HTTP/1.1\r\nHost: x\r\n" + b"".join(field(n) for n in range(3)))
        assert await agent.ended()
    await held(server, 0)


async def test_small_trailers_and_waiting_requests_are_served(server: Server) -> None:
    async with await Raw.to(server.port) as agent:
        agent.send(SLOW + CHUNKED + b"1\r\na\r\n0\r\n" + field(1) + b"\r\n" + GET)
        server.go.set()
        assert [(await agent.answer())[2] for _ in range(3)] == [b"0", b"1", b"0"]
    await held(server, 0)


async def test_any_number_of_small_requests_may_come_at_once(server: Server) -> None:
    """More than wait to be served are not parsed, and are no head that grows."""
    async with await Raw.to(server.port) as agent:
        agent.send(SLOW + GET * 9000)
        asyncio.get_running_loop().call_later(0.2, server.go.set)
        for _ in range(9001):
            assert (await agent.answer())[2] == b"0"


def chunks() -> Iterator[bytes]:
    yield CHUNKED
    for _ in range(REQUEST_HEAD_BYTES_MAX):
        yield b"1\r\na\r\n"
    yield b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "size_bytes"),
    [
        (lambda: [b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 2**23, b"a" * 2**23], 2**23),
        (lambda: [CHUNKED, b"%x\r\n" % 2**23, b"a" * 2**23, b"\r\n0\r\n\r\n"], 2**23),
        (chunks, REQUEST_HEAD_BYTES_MAX),
    ],
    ids=["one length", "one chunk", "many small chunks"],
)
async def test_a_body_is_no_head(server: Server, sent: Callable[[], list[bytes]], size_bytes: int) -> None:
    async with await Raw.to(server.port) as agent:
        for part in sent():
            agent.send(part)
            await agent.writer.drain()
        agent.send(GET)
        assert [(await agent.answer())[2] for _ in range(2)] == [b"%d" % size_bytes, b"0"]


async def test_a_body_that_waits_to_be_read_is_no_head(server: Server) -> None:
    """Its reader is slow, so the connection stops taking it in: what has come is no head that grows."""

    async def wait(request: ServerRequest) -> None:
        await server.go.wait()
        await server.handle(request)

    _, port = await server.listeners.on_tcp(wait, "127.0.0.1", 0)
    async with await Raw.to(port) as agent:
        agent.send(b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 2**22)
        agent.send(b"a" * 2**22)
        asyncio.get_running_loop().call_later(0.2, server.go.set)
        assert (await agent.answer())[2] == b"%d" % 2**22


async def test_all_heads_together_have_a_limit_and_clients_with_small_heads_are_served() -> None:
    """Each of the others stays below the limit of one; a connection that sends whole, small heads goes on."""
    async with Server(heads_bytes_max=4 * FIELD_BYTES) as server, contextlib.AsyncExitStack() as stack:
        honest = await stack.enter_async_context(await Raw.to(server.port))
        agents = [await stack.enter_async_context(await Raw.to(server.port)) for _ in range(8)]
        for agent in agents:
            agent.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n" + field(1))
            honest.send(GET)
            assert (await honest.answer())[0] == 200
            assert server.heads.total_bytes <= 4 * FIELD_BYTES
        ended = [asyncio.ensure_future(agent.ended()) for agent in agents]
        await asyncio.wait(ended, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert any(each.done() for each in ended)
        for each in ended:
            each.cancel()
        await asyncio.gather(*ended, return_exceptions=True)


SERVER = """
import asyncio, resource
from preflight_proxy.server.listeners import Listeners

async def handle(request):
    if request.target == "/slow":
        await asyncio.sleep(600)
    while await request.read_piece():
        pass
    request.response.answer(200, [], b"")

async def main():
    print((await Listeners().on_tcp(handle, "127.0.0.1", 0))[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
BEGINNINGS = {
    "fields": b"GET /1 HTTP/1.1\r\nHost: x\r\n",
    "trailers": CHUNKED + b"1\r\na\r\n0\r\n",
    "requests": SLOW,
}
AGENTS = 250
GROWS_MIB_MAX = 80
"""Without the limits it grows by 500 MiB and more."""


@pytest.mark.parametrize("kind", BEGINNINGS)
async def test_endless_heads_do_not_fill_the_memory(kind: str) -> None:
    """Each of them would send 3.6 MB of fields, or of requests behind one that runs."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        before_mib = peak_mib(process.pid)
        async with asyncio.timeout(60):
            await asyncio.gather(*(_endless(port, kind) for _ in range(AGENTS)))
        assert peak_mib(process.pid) - before_mib < GROWS_MIB_MAX
    finally:
        process.kill()
        await process.wait()


def peak_mib(pid: int) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


async def _endless(port: int, kind: str) -> None:
    with contextlib.suppress(ConnectionError):
        async with await Raw.to(port) as agent:
            agent.send(BEGINNINGS[kind])
            for number in range(120):
                whole = b"GET /1 HTTP/1.1\r\nHost: x\r\n" + field(number) + b"\r\n"
                agent.send(whole if kind == "requests" else field(number))
                await agent.writer.drain()
                await asyncio.sleep(0.001)
