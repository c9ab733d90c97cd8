"""Takes in request bodies: whole, uncompressed, within limits, and not more of them at once than memory allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

BODY_BYTES_MAX = 32 * 2**20
"""One body. A million tokens of context are about 4 MiB of text; images make it more."""
BODIES_BYTES_MAX = 512 * 2**20
"""All bodies in flight; beyond this, reading waits."""
BODY_S_MAX = 120.0
"""A body that takes longer to arrive holds a connection for no one."""


class IntakeError(Exception):
    """A body that is not taken in.

    Attributes:
        status: The HTTP status to answer with.
        message: What is wrong, in a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Intake:
    """Reads bodies for all connections of one proxy."""

    def __init__(self, bodies_bytes_max: int = BODIES_BYTES_MAX) -> None:
        self._free_bytes = bodies_bytes_max
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """The whole body; its room is given back when the context ends.

        Raises:
            IntakeError: It is too large (413), compressed (415), too slow or cut short (400).
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise IntakeError(415, "Compressed request bodies are not taken. Send the JSON as it is.")
        size_bytes = request.content_length
        if size_bytes is not None and size_bytes > BODY_BYTES_MAX:
            raise IntakeError(413, f"The request body is larger than {BODY_BYTES_MAX // 2**20} MiB. Nothing was sent.")
        room_bytes = BODY_BYTES_MAX if size_bytes is None else size_bytes
        async with self._freed:
            await self._freed.wait_for(lambda: self._free_bytes >= room_bytes)
            self._free_bytes -= room_bytes
        try:
            yield await _read(request)
        finally:
            async with self._freed:
                self._free_bytes += room_bytes
                self._freed.notify_all()


async def _read(request: web.BaseRequest) -> bytes:
    held = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.content.iter_any():
                held += chunk
                if len(held) > BODY_BYTES_MAX:
                    raise IntakeError(
                        413, f"The request body is larger than {BODY_BYTES_MAX // 2**20} MiB. Nothing was sent."
                    )
    except (TimeoutError, web.RequestPayloadError, ConnectionError) as exc:
        raise IntakeError(400, "The request body did not arrive whole. Nothing was sent.") from exc
    return bytes(held)
