"""An agent's streams: apart, in order, never more in memory than a bound, and over when the connection is."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.engine.streams import AttachedStreams, attach
from tests.support.engine_state import State
from tests.support.scripted_engine import HANG, LOST, USUAL, Answer, Fail, ScriptedEngine, Text

pytestmark = pytest.mark.wire

ATTACH = "POST /containers/*/attach"
BODY = {"Image": "me/agent", "OpenStdin": True, "StdinOnce": True}
FRAME = struct.Struct(">BxxxL")
FLOOD_BYTES = 100_000_000
BOUND_BYTES = 2_000_000
"""Both buffers, that of the client, and what the system keeps of a socket; nothing of a flood's size."""


@pytest.fixture
async def attached(client: Engine, scripted: ScriptedEngine) -> AsyncIterator[AttachedStreams]:
    """The streams of a container named `one`, which runs."""
    made = await client.create("one", BODY, "creating it")
    streams = await attach(client, made)
    await client.start(made, "starting it")
    yield streams
    await streams.end()


async def test_outputs_are_kept_apart(attached: AttachedStreams, scripted: ScriptedEngine) -> None:
    scripted.print("one", b"out 1\n", b"err 1\n")
    scripted.print("one", b"out 2\n")
    scripted.print("one", b"", b"err 2\n")
    scripted.exit("one", 0)
    assert await attached.pipes.stdout.read() == b"out 1\nout 2\n"
    assert await attached.pipes.stderr.read() == b"err 1\nerr 2\n"
    assert attached.over.is_set()


async def test_each_output_goes_on_while_the_other_is_not_read(
    attached: AttachedStreams, scripted: ScriptedEngine
) -> None:
    scripted.print("one", b"", b"e" * 60_000)
    scripted.print("one", b"hello\n")
    assert await attached.pipes.stdout.readline() == b"hello\n"
    assert not attached.over.is_set()


async def test_input_arrives_in_order_and_ends_by_itself_while_output_goes_on(
    attached: AttachedStreams, scripted: ScriptedEngine
) -> None:
    lines = [f"line {number}\n".encode() for number in range(2000)]
    for line in lines:
        attached.pipes.stdin.write(line)
    await scripted.state.until(lambda: scripted.stdin("one") == b"".join(lines))
    assert not scripted.stdin_closed("one")
    attached.pipes.stdin.write(b"last\n")
    attached.pipes.stdin.close()
    await scripted.state.until(lambda: scripted.stdin_closed("one"))
    assert scripted.stdin("one").endswith(b"line 1999\nlast\n")
    scripted.print("one", b"still here\n")
    assert await attached.pipes.stdout.readline() == b"still here\n"
    assert not attached.over.is_set()
    attached.pipes.stdin.write(b"too late")
    attached.pipes.stdin.close()
    await attached.end()
    assert scripted.stdin("one").endswith(b"last\n")


async def test_a_large_input_arrives_whole(attached: AttachedStreams, scripted: ScriptedEngine) -> None:
    attached.pipes.stdin.write(b"x" * 5_000_000)
    attached.pipes.stdin.close()
    await scripted.state.until(lambda: scripted.stdin_closed("one"))
    assert len(scripted.stdin("one")) == 5_000_000


@pytest.mark.parametrize("how", ["dropped", "stopped"])
async def test_a_lost_connection_ends_the_readers_and_sets_over(
    attached: AttachedStreams, scripted: ScriptedEngine, how: str
) -> None:
    scripted.print("one", b"half a li")
    assert await attached.pipes.stdout.readexactly(4) == b"half"
    if how == "dropped":
        scripted.drop_connections()
    else:
        await scripted.stop()
    async with asyncio.timeout(5):
        await attached.over.wait()
        assert await attached.pipes.stdout.read() == b" a li"
        assert await attached.pipes.stderr.read() == b""
    for _ in range(100):
        attached.pipes.stdin.write(b"x")
    attached.pipes.stdin.close()
    assert scripted.container("one").running


async def test_an_end_of_the_container_is_the_end_of_both_readers(
    attached: AttachedStreams, scripted: ScriptedEngine
) -> None:
    scripted.exit("one", 0)
    async with asyncio.timeout(5):
        await attached.over.wait()
    assert (await attached.pipes.stdout.read(), await attached.pipes.stderr.read()) == (b"", b"")


async def test_an_end_takes_the_rest_of_the_output_if_that_comes_in_time(
    attached: AttachedStreams, scripted: ScriptedEngine
) -> None:
    ending = asyncio.ensure_future(attached.end(within_s=30))
    await asyncio.sleep(0)
    scripted.print("one", b"last words")
    scripted.exit("one", 0)
    await ending
    assert await attached.pipes.stdout.read() == b"last words"


async def test_an_end_does_not_wait_for_an_agent_that_prints_nothing(attached: AttachedStreams) -> None:
    async with asyncio.timeout(5):
        await attached.end(within_s=0.05)
        assert await attached.pipes.stdout.read() == b""
        await attached.end()
    assert attached.over.is_set()


async def test_the_output_of_an_agent_that_starts_later_is_read_from_its_first_byte(
    client: Engine, scripted: ScriptedEngine
) -> None:
    made = await client.create("one", BODY, "creating it")
    streams = await attach(client, made)
    streams.pipes.stdin.write(b"early\n")
    await scripted.state.until(lambda: scripted.stdin("one") == b"early\n")
    scripted.state.on_start = lambda container: container.print(1, b"first")
    await client.start(made, "starting it")
    assert await streams.pipes.stdout.readexactly(5) == b"first"
    await streams.end()


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ((Fail(404, "No such container"),), Failure.GONE),
        ((USUAL, Fail(409, "container one is paused")), Failure.CONFLICT),
        ((USUAL, LOST), Failure.LOST),
        ((Text(200, "no upgrade", "text/plain"),), Failure.FAILED),
        ((USUAL, Text(200, "", "text/plain")), Failure.FAILED),
    ],
)
async def test_streams_that_cannot_be_had_are_an_error_and_nothing_stays_open(
    client: Engine, scripted: ScriptedEngine, answers: tuple[Answer, ...], failure: Failure
) -> None:
    made = await client.create("one", BODY, "creating it")
    scripted.script(ATTACH, *answers)
    with pytest.raises(DockerError, match=r"^attaching to the agent: ") as caught:
        await attach(client, made)
    assert caught.value.failure is failure
    gc.collect()  # a stream that is not closed is a warning, and so an error


async def test_an_attach_that_is_broken_off_leaves_nothing_open(client: Engine, scripted: ScriptedEngine) -> None:
    made = await client.create("one", BODY, "creating it")
    scripted.script(ATTACH, USUAL, HANG)
    attaching = asyncio.ensure_future(attach(client, made))
    await scripted.called(ATTACH, times=2)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    del attaching
    gc.collect()


Printer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class RawEngine:
    """An engine of a few lines: it answers `GET /version`, prints by hand to whoever attaches, and reads no input."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._version = json.dumps(State().version)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/attach" not in head:
                    text = self._version.encode()
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                        % (len(text), text)
                    )
                    continue
                writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                await writer.drain()
                if b"stdin=1" in head:
                    writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await asyncio.Event().wait()
                await self._printer(writer)
                break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


Streams = Callable[[Printer], Awaitable[AttachedStreams]]


@pytest.fixture
async def printed(short_dir: Path) -> AsyncIterator[Streams]:
    """Attach to what a test prints by hand."""
    async with AsyncExitStack() as stack:

        async def streams(printer: Printer) -> AttachedStreams:
            serving: set[asyncio.Task[None]] = set()
            raw = RawEngine(printer)

            def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                serving.add(asyncio.ensure_future(raw.serve(reader, writer)))

            server = await asyncio.start_unix_server(begin, short_dir / "raw.sock")
            stack.callback(server.close)
            stack.callback(lambda: [task.cancel() for task in serving])
            client = await stack.enter_async_context(Engine.open(f"unix://{short_dir}/raw.sock"))
            attached = await attach(client, "one")
            stack.push_async_callback(attached.end)
            return attached

        yield streams
    await asyncio.sleep(0)


class Flood:
    """An agent that prints as fast as it is let; `sent` is what has been taken from it."""

    def __init__(self, total_bytes: int = FLOOD_BYTES) -> None:
        self.sent, self.total_bytes = 0, total_bytes

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        piece = b"x" * 32_768
        while self.sent < self.total_bytes:
            piece = piece[: self.total_bytes - self.sent]
            writer.write(FRAME.pack(1, len(piece)) + piece)
            await writer.drain()
            self.sent += len(piece)


async def test_a_flood_passes_whole_and_never_more_than_a_bound_of_it_is_kept(printed: Streams) -> None:
    flood = Flood()
    attached = await printed(flood)
    got, most = 0, 0
    while data := await attached.pipes.stdout.read(1 << 20):
        got += len(data)
        most = max(most, flood.sent - got)
    assert got == FLOOD_BYTES
    assert most < BOUND_BYTES


async def test_an_agent_waits_while_its_output_is_not_read(printed: Streams) -> None:
    flood = Flood()
    attached = await printed(flood)
    before = -1
    while flood.sent != before:
        before = flood.sent
        await asyncio.sleep(0.1)
    assert 0 < flood.sent < BOUND_BYTES
    assert not attached.over.is_set()
    async with asyncio.timeout(5):
        await attached.end()


async def test_an_agent_that_never_reads_its_input_blocks_no_other(printed: Streams) -> None:
    go_on = asyncio.Event()

    async def printer(writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(FRAME.pack(1, 6) + b"hello\n")
        await asyncio.Event().wait()

    attached = await printed(printer)
    async with asyncio.timeout(5):
        for _ in range(50):
            attached.pipes.stdin.write(b"x" * 1_000_000)
        attached.pipes.stdin.close()
        await asyncio.sleep(0.05)
        go_on.set()
        assert await attached.pipes.stdout.readline() == b"hello\n"
        await attached.end()


async def test_frames_may_come_in_any_pieces_and_of_unknown_streams(printed: Streams) -> None:
    async def printer(writer: asyncio.StreamWriter) -> None:
        frames = b"".join(
            FRAME.pack(stream, len(text)) + text
            for stream, text in ((1, b"one "), (0, b"input"), (2, b"err"), (7, b"???"), (1, b""), (1, b"two"))
        )
        for at in range(len(frames)):
            writer.write(frames[at : at + 1])
            await asyncio.sleep(0)
        writer.write(FRAME.pack(1, 1000) + b"cut off")

    attached = await printed(printer)
    assert await attached.pipes.stdout.read() == b"one two"
    assert await attached.pipes.stderr.read() == b"err"
    assert attached.over.is_set()
