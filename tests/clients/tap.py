"""A wire that is listened to: bytes pass unchanged between a client and the proxy, and a test can wait for what has passed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

READ_BYTES = 1 << 16


class Tap:
    """Listens on a port of its own and passes everything on to another.

    Args:
        host, port: Where the bytes go.

    Attributes:
        port: Where clients connect, once entered.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._passed = bytearray()
        self._moved = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Tap:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def passed(self) -> bytes:
        """All that has gone down to clients."""
        return bytes(self._passed)

    async def heard(self, text: bytes) -> None:
        """Return once this text has gone down to a client."""
        while text not in self._passed:
            await self._moved.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._to)
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(
                self._pass(reader, up_writer, listen=False), self._pass(up_reader, writer, listen=True)
            )
        finally:
            for each in (writer, up_writer):
                self._writers.discard(each)
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, listen: bool) -> None:
        """Pass bytes on in one direction until it ends; the end is passed on too."""
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                writer.write(data)
                await writer.drain()
                if listen:
                    self._passed += data
                    self._moved.set()
                    self._moved = asyncio.Event()
        with suppress(OSError, RuntimeError):
            writer.close()
