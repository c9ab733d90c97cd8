"""An agent's standard streams, over two connections to the engine: one for both outputs, one for the input.

The input has its own connection, so that it can be closed alone. Output is read only as fast as the readers are read, so an
agent that prints too much waits for us.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import aiohttp
from aiodocker.stream import Stream

from agent_preflight.engine.client import Engine
from agent_preflight.sandboxes.interface import Pipes
from preflight_proxy.base.tasks import Tasks

BUFFER_BYTES = 128 * 1024
"""What is buffered of each of an agent's outputs; the engine's connection waits at twice that."""
STDOUT, STDERR = 1, 2
"""The engine's numbers for the outputs. Source: docs.docker.com, ContainerAttach, "Stream format"."""


class _FlowControl(asyncio.ReadTransport):
    """Takes the place of a StreamReader's transport: the reader pauses it while its buffer is full."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        self.open.clear()

    def resume_reading(self) -> None:
        self.open.set()


class AttachedStreams:
    """The streams of one container; made by `attach`.

    Attributes:
        pipes: Its streams.
        over: Set when its output is over, whether or not the container has ended.
    """

    def __init__(self, output: Stream, stdin: Stream) -> None:
        self._output, self._stdin = output, stdin
        self._tasks = Tasks()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._readers = {number: asyncio.StreamReader(BUFFER_BYTES) for number in (STDOUT, STDERR)}
        self._valves = {number: _FlowControl() for number in self._readers}
        for number, reader in self._readers.items():
            reader.set_transport(self._valves[number])
        self.over = asyncio.Event()
        self.pipes = Pipes(self, self._readers[STDOUT], self._readers[STDERR])
        self._tasks.spawn(self._read(), "agent output")
        self._tasks.spawn(self._write(), "agent input")

    def write(self, data: bytes) -> None:
        """Send this to the agent's standard input, in order; does not wait for the agent to read it."""
        self._lines.put_nowait(data)

    def close(self) -> None:
        """Let the agent's standard input end after what was written."""
        self._lines.put_nowait(None)

    async def _read(self) -> None:
        try:
            with _connection_errors():
                while (message := await self._output.read_out()) is not None:
                    if message.stream in self._readers:
                        self._readers[message.stream].feed_data(message.data)
                        await self._valves[message.stream].open.wait()
        finally:
            for reader in self._readers.values():
                reader.feed_eof()
            self.over.set()

    async def _write(self) -> None:
        with _connection_errors():
            while (data := await self._lines.get()) is not None:
                await self._stdin.write_in(data)
            await self._stdin.close()

    async def end(self, within_s: float = 0.0) -> None:
        """Close both connections, after the rest of the output if that comes within `within_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.over.wait()
        await self._tasks.cancel()
        for stream in (self._output, self._stdin):
            with _connection_errors():
                await stream.close()


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """A broken connection ends a stream; aiodocker asserts that there is one."""
    with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError, RuntimeError):
        yield


async def attach(engine: Engine, container: str) -> AttachedStreams:
    """Connect to the streams of a container that has not started.

    Raises:
        DockerError: The engine refused, or did not answer.
    """
    output = await engine.attach(container, stdin=False)
    try:
        return AttachedStreams(output, await engine.attach(container, stdin=True))
    except BaseException:
        with _connection_errors():
            await output.close()
        raise
