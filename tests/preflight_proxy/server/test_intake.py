"""Bodies come in whole, plain, within their limits, and wait where memory is taken."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from preflight_proxy.server.intake import Intake, IntakeError
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.server.request import ServerRequest
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

MIB = 2**20


@dataclass
class Taker:
    """Reads bodies, and keeps each until it may free it. The path names the owner."""

    intake: Intake
    may_go: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    crashes: int = 0

    async def handle(self, request: ServerRequest) -> None:
        try:
            body = await self.intake.read(request, request.target)
            try:
                self.taken.put_nowait(request.target)
                await self.may_go.wait()
                request.response.answer(200, [], str(len(body)).encode())
            finally:
                self.intake.leave(len(body), request.target)
        except IntakeError as exc:
            request.response.answer(exc.status, [], exc.message.encode())
        except Exception:
            self.crashes += 1
            raise
        finally:
            self.left.set()


@contextlib.asynccontextmanager
async def served(intake: Intake, *, at_once: bool = True) -> AsyncIterator[tuple[Taker, int]]:
    taker, listeners = Taker(intake), Listeners()
    if at_once:
        taker.may_go.set()
    _, port = await listeners.on_tcp(taker.handle, "127.0.0.1", 0)
    yield taker, port
    await listeners.close()


def post(body: bytes, path: str = "/a", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (path.encode(), length, headers, body)


def chunked(*chunks: bytes) -> bytes:
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


async def answer(intake: Intake, sent: bytes) -> tuple[int, bytes]:
    async with served(intake) as (_, port), await Raw.to(port) as client:
        client.send(sent)
        status, _, body = await client.answer()
        return status, body


@pytest.mark.parametrize("sent", [post(b"x" * 700), chunked(b"x" * 300, b"x" * 400)], ids=["length", "chunks"])
async def test_a_body_comes_in_whole(sent: bytes) -> None:
    assert await answer(Intake(), sent) == (200, b"700")


async def test_no_body_is_an_empty_one() -> None:
    assert await answer(Intake(), post(b"")) == (200, b"0")
    assert await answer(Intake(), b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n") == (200, b"0")


async def test_a_body_of_the_very_limit_is_taken_and_one_byte_more_is_not() -> None:
    intake = Intake(body_bytes_max=MIB)
    assert await answer(intake, post(b"x" * MIB)) == (200, b"%d" % MIB)
    assert await answer(intake, chunked(b"x" * MIB)) == (200, b"%d" % MIB)
    assert (await answer(intake, post(b"x" * (MIB + 1))))[0] == 413
    status, text = await answer(intake, chunked(b"x" * MIB, b"x"))
    assert status == 413
    assert b"larger than 1 MiB" in text


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_of_it_comes() -> None:
    async with served(Intake()) as (_, port), await Raw.to(port) as client:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        assert (await client.answer())[0] == 413


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_a_415(encoding: str) -> None:
    headers = f"Content-Encoding: {encoding}\r\n".encode()
    assert (await answer(Intake(), post(gzip.compress(b"{}"), headers=headers)))[0] == 415


async def test_a_body_that_says_it_is_not_compressed_is_taken() -> None:
    assert await answer(Intake(), post(b"{}", headers=b"Content-Encoding: Identity\r\n")) == (200, b"2")


async def test_a_slow_body_is_a_400() -> None:
    intake = Intake(body_s_max=0.05)
    assert (await answer(intake, post(b"abc")[:-1]))[0] == 400


@pytest.mark.parametrize("rest", [b"zz\r\nab", b"2\r\nabc\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"])
async def test_broken_chunks_are_a_400(rest: bytes) -> None:
    sent = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + rest + b"\r\n\r\n"
    assert (await answer(Intake(), sent))[0] == 400


async def test_a_client_that_leaves_half_way_frees_its_memory() -> None:
    intake = Intake(body_bytes_max=8, owner_bytes_max=8, bodies_bytes_max=8)
    async with served(intake) as (taker, port):
        async with await Raw.to(port) as client:
            client.send(post(b"12345678")[:-1])
        await taker.left.wait()
        async with await Raw.to(port) as client:
            client.send(post(b"12345678"))
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize(("owner_bytes_max", "second"), [(16, "/b"), (8, "/a")], ids=["all room", "own share"])
async def test_a_body_without_memory_waits_until_another_is_done(owner_bytes_max: int, second: str) -> None:
    """When the memory for all is taken, or the share of the sender."""
    intake = Intake(body_bytes_max=8, owner_bytes_max=owner_bytes_max, bodies_bytes_max=15)
    async with served(intake, at_once=False) as (taker, port), await Raw.to(port) as one, await Raw.to(port) as two:
        one.send(post(b"12345678", "/a"))
        assert await taker.taken.get() == "/a"
        two.send(post(b"12345678", second))
        async with await Raw.to(port) as small:  # its room is there, so that the second is known to have asked
            small.send(post(b"1", "/c"))
            assert await taker.taken.get() == "/c"
        assert taker.taken.empty()
        taker.may_go.set()
        assert (await one.answer())[0] == (await two.answer())[0] == 200


async def test_empty_bodies_of_one_owner_at_once_are_taken() -> None:
    async with served(Intake(), at_once=False) as (taker, port), await Raw.to(port) as one, await Raw.to(port) as two:
        for client in (one, two):
            client.send(post(b""))
            await taker.taken.get()
        taker.may_go.set()
        assert (await one.answer())[0] == (await two.answer())[0] == 200
        assert taker.crashes == 0


async def test_a_body_of_unknown_length_takes_the_most_until_it_is_there_and_then_its_own_size() -> None:
    intake = Intake(body_bytes_max=8, owner_bytes_max=8, bodies_bytes_max=8)
    async with served(intake, at_once=False) as (taker, port), await Raw.to(port) as one, await Raw.to(port) as two:
        one.send(chunked(b"12"))
        await taker.taken.get()
        assert intake.bodies_bytes == 2
        two.send(post(b"123456"))
        await taker.taken.get()
        taker.may_go.set()
        assert (await one.answer())[0] == (await two.answer())[0] == 200


async def test_one_owners_flood_leaves_memory_to_others() -> None:
    intake = Intake(body_bytes_max=8, owner_bytes_max=16, bodies_bytes_max=64)
    async with served(intake, at_once=False) as (taker, port), contextlib.AsyncExitStack() as stack:
        flood = [await stack.enter_async_context(await Raw.to(port)) for _ in range(8)]
        for client in flood:
            client.send(post(b"12345678", "/greedy"))
        other = await stack.enter_async_context(await Raw.to(port))
        other.send(post(b"12345678", "/other"))
        assert sorted([await taker.taken.get() for _ in range(3)]) == ["/greedy", "/greedy", "/other"]
        assert taker.taken.empty()
        taker.may_go.set()
        assert [(await client.answer())[0] for client in (*flood, other)] == [200] * 9


async def test_a_client_that_leaves_while_it_waits_for_memory_takes_none() -> None:
    intake = Intake(body_bytes_max=8, owner_bytes_max=8, bodies_bytes_max=8)
    async with served(intake, at_once=False) as (taker, port), await Raw.to(port) as one:
        one.send(post(b"12345678"))
        await taker.taken.get()
        async with await Raw.to(port) as two:
            two.send(post(b"12345678"))
        await taker.left.wait()
        taker.may_go.set()
        assert (await one.answer())[0] == 200
        async with await Raw.to(port) as three:
            three.send(post(b"12345678"))
            assert (await three.answer())[0] == 200
