"""The relay, between the product's own client and the real engine."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.engine.streams import attach
from tests.agent_preflight.docker.conftest import base_image
from tests.support.engine_relay import EngineRelay, Moment

__all__ = ["base_image"]

pytestmark = pytest.mark.docker

WAIT_S = 20.0


@pytest.fixture
def relay() -> Iterator[EngineRelay]:
    """A relay to the real engine."""
    with tempfile.TemporaryDirectory(prefix="ap-") as folder, EngineRelay(Path(folder) / "e.sock") as relay:
        yield relay
    assert all(thread.name != "relay e.sock" for thread in threading.enumerate())


@pytest.fixture
async def engine(relay: EngineRelay) -> AsyncIterator[Engine]:
    """The product's client, by the relay."""
    async with Engine.open(relay.url) as engine:
        yield engine


@pytest.fixture
async def container(engine: Engine, base_image: str) -> AsyncIterator[str]:
    """A container that says what it reads, then "over" when its input has ended; it does not run yet."""
    body = {"Image": base_image, "Cmd": ["sh", "-c", "cat; echo over"], "OpenStdin": True, "StdinOnce": True}
    made = await engine.create(f"relayed-{id(engine)}", body | {"HostConfig": {"Init": True}}, "creating it")
    yield made
    await engine.remove(made)


async def until(true: Callable[[], bool]) -> None:
    """Return once this is true; the relay's thread makes it so."""
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_it_tells_each_call_when_it_is_asked_and_when_it_is_answered(relay: EngineRelay, engine: Engine) -> None:
    told: list[tuple[int, str, Moment]] = []
    before = len(relay.calls)
    relay.on_call(lambda number, call, moment: told.append((number, call, moment)) if number > before else None)
    await engine.info()
    assert await engine.image("no/such:image") is None
    with pytest.raises(DockerError, match="creating"):
        await engine.create("nothing", {"Image": "no/such:image"}, "creating nothing")
    calls = ["GET /info", "GET /images/no/such:image/json", "POST /containers/create"]
    assert relay.calls[before:] == calls
    moments: tuple[Moment, ...] = ("asked", "answered")
    await until(lambda: len(told) == 6)  # the client may have its answer a moment before that is told
    assert told == [(number, call, moment) for number, call in enumerate(calls, before + 1) for moment in moments]


async def test_bodies_of_known_and_of_unknown_length_pass_whole(relay: EngineRelay) -> None:
    body = b'{"Image": "no/such:image"}'
    head = b"POST /containers/create HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\n"
    known = head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    chunks = b"5\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    unknown = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    reader, writer = await asyncio.open_unix_connection(relay.url.removeprefix("unix://"))
    for request in (known, unknown, known):
        for byte in request:  # whatever the pieces are
            writer.write(bytes([byte]))
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 404 Not Found\r\n" in answer
        assert b"No such image" in await reader.readuntil(b"}\n")
    writer.close()
    assert relay.calls == ["POST /containers/create"] * 3


async def test_an_attached_connection_passes_both_ways_and_its_input_ends_by_itself(
    relay: EngineRelay, engine: Engine, container: str
) -> None:
    attached = await attach(engine, container)
    await engine.start(container, "starting it")
    attached.pipes.stdin.write(b"hello\n")
    assert await attached.pipes.stdout.readline() == b"hello\n"
    attached.pipes.stdin.close()
    assert await attached.pipes.stdout.read() == b"over\n"
    await attached.end()
    path = f"POST /containers/{container}"
    assert relay.calls[-3:] == [f"{path}/attach", f"{path}/attach", f"{path}/start"]


async def test_a_cut_loses_what_is_under_way_and_nothing_else(
    relay: EngineRelay, engine: Engine, container: str
) -> None:
    attached = await attach(engine, container)
    await engine.start(container, "starting it")
    asked = threading.Event()
    relay.on_call(lambda number, call, moment: asked.set() if call.endswith("/wait") else None)
    waiting = asyncio.ensure_future(engine.wait(container, WAIT_S))
    assert await asyncio.to_thread(asked.wait, WAIT_S)
    assert relay.cut() >= 3
    with pytest.raises(DockerError) as caught:
        await waiting
    assert caught.value.failure is Failure.LOST
    await asyncio.wait_for(attached.over.wait(), WAIT_S)
    await attached.end()
    assert await engine.look(container) is not None


async def test_a_cut_may_come_from_whoever_listens(relay: EngineRelay, engine: Engine) -> None:
    relay.on_call(lambda number, call, moment: relay.cut() if moment == "asked" else None)
    with pytest.raises(DockerError):
        await engine.info()
    relay.on_call(lambda number, call, moment: None)
    assert (await engine.info())["ID"]


async def test_nothing_passes_in_a_pause(relay: EngineRelay, engine: Engine) -> None:
    told: list[Moment] = []
    relay.on_call(lambda number, call, moment: told.append(moment) if call == "GET /info" else None)
    relay.pause()
    asking = asyncio.ensure_future(engine.info())
    await until(lambda: relay.calls[-1] == "GET /info")
    assert (told, asking.done()) == ([], False)
    relay.resume()
    assert (await asking)["ID"]
    await until(lambda: told == ["asked", "answered"])


async def test_the_engine_hears_that_a_client_has_gone(tmp_path: Path) -> None:
    """An engine that goes on sending to nobody would keep what it sends to."""
    with tempfile.TemporaryDirectory(prefix="ap-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/engine.sock")
        listener.listen()
        listener.setblocking(False)
        with EngineRelay(Path(folder, "e.sock"), f"unix://{folder}/engine.sock") as relay:
            _, writer = await asyncio.open_unix_connection(relay.url.removeprefix("unix://"))
            loop = asyncio.get_running_loop()
            connection, _ = await loop.sock_accept(listener)
            with connection:
                writer.write(b"GET /events HTTP/1.1\r\n\r\n")
                assert await loop.sock_recv(connection, 100) == b"GET /events HTTP/1.1\r\n\r\n"
                writer.close()
                assert await loop.sock_recv(connection, 1) == b""
                with pytest.raises(OSError):
                    await _send_on(connection)


async def _send_on(connection: socket.socket) -> None:
    while True:  # the first may be taken still
        await asyncio.get_running_loop().sock_sendall(connection, b"more")
        await asyncio.sleep(0)


def test_a_relay_that_cannot_serve_says_so(tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup, match="the relay itself failed"):
        EngineRelay(tmp_path / "none" / "e.sock").__enter__()
