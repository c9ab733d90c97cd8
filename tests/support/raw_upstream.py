"""An upstream that counts every byte it gets, and answers as a test says or not at all."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import ssl
import termios
from collections.abc import Awaitable, Callable
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Behave = Callable[[asyncio.StreamWriter, int], Awaitable[bool]]
"""Answers the request with this number (from 1) on a connection's writer; False closes the connection."""


async def answer_ok(writer: asyncio.StreamWriter, _number: int) -> bool:
    """Return a small answer with status 200 on a keep-alive connection."""
    writer.write(OK)
    return True


class RawUpstream:
    """One listening socket.

    Attributes:
        requests: Each complete request, head and body, in order of arrival.
        bytes_count: All bytes received, incomplete requests included.
        connections_count: Connections accepted.
        ended: Set whenever a connection ended.
    """

    def __init__(
        self, behave: Behave = answer_ok, *, head_only: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self._behave = behave
        self._tls = tls
        self._head_only = head_only
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.requests: list[bytes] = []
        self.bytes_count = 0
        self.connections_count = 0
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._connections):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def heads(self) -> list[str]:
        """The request lines, in order."""
        return [request.partition(b"\r\n")[0].decode() for request in self.requests]

    def headers(self, index: int = -1) -> list[tuple[str, str]]:
        """One request's headers: lower-case names, values as sent."""
        lines = self.requests[index].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def waiting_bytes(self) -> int:
        """Bytes that have arrived at the server's sockets and are not read yet."""
        return sum(_waiting(writer) for writer in self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_count += 1
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()
        self._connections.discard(writer)
        self.ended.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            request += (chunk := await reader.read(4096))
            self.bytes_count += len(chunk)
            if not chunk:
                return False
        head, _, body = request.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length and not self._head_only:
            body += (chunk := await reader.read(65536))
            self.bytes_count += len(chunk)
            if not chunk:
                return False
        self.requests.append(head + b"\r\n\r\n" + body)
        return await self._behave(writer, len(self.requests))


def _waiting(writer: asyncio.StreamWriter) -> int:
    sock: socket.socket = writer.get_extra_info("socket")
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]
