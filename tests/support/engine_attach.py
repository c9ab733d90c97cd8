"""A connection that a scripted engine has handed to a container: output comes in frames, input goes as it is.

Source: Docker 20.10.24, asked by hand; the frames: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping

from aiohttp import web

from tests.support.engine_container import Container

RAW_STREAM = "application/vnd.docker.raw-stream"
FRAME = struct.Struct(">BxxxL")
STREAMS = {"stdout": 1, "stderr": 2}


class Attached(asyncio.Protocol):
    """One attached connection, until the client or the container ends it.

    As with the real engine: what came in one packet with the request's head is lost; one that carries only stdin ends when
    the client says that nothing more comes; one to a container that does not run waits for it to run, however long.

    Args:
        container: Whose streams they are.
        asked: The query; streams are "1" or "true" if wanted.
        server: The protocol that had the connection so far, and is told of its end.
    """

    def __init__(self, container: Container, asked: Mapping[str, str], server: asyncio.Protocol) -> None:
        self._container, self._server = container, server
        self._wanted = {number for name, number in STREAMS.items() if is_true(asked.get(name))}
        self._stdin = is_true(asked.get("stdin")) and bool(container.config["OpenStdin"])
        self._logs, self._stream = is_true(asked.get("logs")), is_true(asked.get("stream"))
        self._transport: asyncio.Transport | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Take the connection; its head is sent."""
        self._transport = transport
        transport.set_protocol(self)
        for stream, data in self._container.output if self._logs else ():
            self.feed(stream, data)
        if not self._stream:
            return self.finish()
        return self._container.attached.append(self)

    def feed(self, stream: int, data: bytes) -> None:
        """Send what was printed, if it was asked for."""
        assert self._transport is not None
        if stream in self._wanted and not self._transport.is_closing():
            self._transport.write(data if self._container.config["Tty"] else FRAME.pack(stream, len(data)) + data)

    def finish(self) -> None:
        """Close the connection after what was sent."""
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand the input on."""
        if self._stdin:
            self._container.take(data)

    def eof_received(self) -> bool:
        """The input is over; the connection stays for the output, if there is any."""
        self._hang_up()
        return bool(self._wanted)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._hang_up()
        if self in self._container.attached:
            self._container.attached.remove(self)
        self._server.connection_lost(exc)

    def _hang_up(self) -> None:
        if self._stdin:
            self._container.hang_up()


async def hijack(request: web.BaseRequest, container: Container) -> web.StreamResponse:
    """Answer with the head, make the connection the container's, and wait until it is over: then this is cancelled."""
    transport = request.transport
    assert transport is not None
    upgrade = b"101 UPGRADED" if "Upgrade" in request.headers else b"200 OK"
    more = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if "Upgrade" in request.headers else b""
    transport.write(b"HTTP/1.1 " + upgrade + b"\r\nContent-Type: " + RAW_STREAM.encode() + b"\r\n" + more + b"\r\n")
    Attached(container, request.query, request.protocol).begin(transport)
    over: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await over


def is_true(value: str | None) -> bool:
    """Read a query's boolean as the engine does."""
    return (value or "").strip().lower() not in {"", "0", "no", "false", "none"}
