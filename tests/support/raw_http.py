"""HTTP written by hand: requests that no client library sends, and that a server must answer well."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any


class Raw:
    """One TCP connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int) -> Raw:
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Raw:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response with a length: status, headers by lower-case name, body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def ended(self) -> bool:
        """Wait for the end of the connection; return whether nothing came before it."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def is_error(body: bytes, status: int) -> bool:
    """Return whether this is OpenRouter's error envelope with this status."""
    document: dict[str, Any] = json.loads(body)
    return document["error"]["code"] == status and bool(document["error"]["message"])
