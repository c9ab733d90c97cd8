"""Reads request bodies: whole, uncompressed, within limits, and no more at once than memory allows (C5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from preflight_proxy.server.request import ServerRequest

REQUEST_BYTES_MAX = 32 * 2**20
"""One body. A million tokens of context are about 4 MiB of text; images make it more."""
BODIES_BYTES_MAX = 512 * 2**20
"""All bodies in flight; beyond this, reading waits."""
OWNER_BYTES_MAX = BODIES_BYTES_MAX // 4
"""Bodies in flight of one owner: who sends many slowly waits, and the others do not."""
BODY_S_MAX = 120.0
"""A body that takes longer to arrive is refused."""


class IntakeError(Exception):
    """A body that is refused.

    Attributes:
        status: The HTTP status to answer with.
        message: What is wrong, in a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Body:
    """One body. Its memory is taken until `leave`.

    Args:
        size_bytes: How much memory is taken.
        give_back: Called with how many bytes of it are free again.

    Attributes:
        data: The bytes of the body, once it is read.
    """

    def __init__(self, size_bytes: int, give_back: Callable[[int], None]) -> None:
        self._size_bytes = size_bytes
        self._give_back = give_back
        self.data = b""

    def fill(self, data: bytes) -> None:
        """Set the bytes, and give back what they do not need: for a body of unknown length, the largest size was taken."""
        self.data = data
        spare_bytes, self._size_bytes = self._size_bytes - len(data), len(data)
        self._give_back(spare_bytes)

    def leave(self) -> None:
        """Give the memory back: nobody uses the body any more."""
        self._give_back(self._size_bytes)


class Intake:
    """Reads bodies for all connections of one proxy.

    Args:
        body_bytes_max: See `REQUEST_BYTES_MAX`; at most the other two.
        owner_bytes_max: See `OWNER_BYTES_MAX`.
        bodies_bytes_max: See `BODIES_BYTES_MAX`.
        body_s_max: See `BODY_S_MAX`.
    """

    def __init__(
        self,
        *,
        body_bytes_max: int = REQUEST_BYTES_MAX,
        owner_bytes_max: int = OWNER_BYTES_MAX,
        bodies_bytes_max: int = BODIES_BYTES_MAX,
        body_s_max: float = BODY_S_MAX,
    ) -> None:
        self._body_bytes_max = body_bytes_max
        self._owner_bytes_max = owner_bytes_max
        self._bodies_bytes_max = bodies_bytes_max
        self._body_s_max = body_s_max
        self._bytes_of: dict[str, int] = {}
        self._freed = asyncio.Event()

    @property
    def bodies_bytes(self) -> int:
        """The memory of all bodies in flight."""
        return sum(self._bytes_of.values())

    @asynccontextmanager
    async def body(self, request: ServerRequest, owner: str = "") -> AsyncIterator[Body]:
        """Read the whole body; its memory is given back when the context ends.

        Args:
            request: Its head is read, its body is not.
            owner: Whose share of the memory it takes, such as an account.

        Raises:
            IntakeError: It is too large (413), compressed (415), too slow or cut short (400).
        """
        encoding = request.headers.get("content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise IntakeError(415, "Compressed request bodies are not taken. Send the JSON as it is.")
        size_bytes = request.content_length
        if size_bytes is not None and size_bytes > self._body_bytes_max:
            raise self._too_large()
        body = await self._take(owner, self._body_bytes_max if size_bytes is None else size_bytes)
        try:
            body.fill(await self._read(request))
            yield body
        finally:
            body.leave()

    async def _take(self, owner: str, size_bytes: int) -> Body:
        while not self._has_room(owner, size_bytes):
            self._freed.clear()
            await self._freed.wait()
        self._bytes_of[owner] = self._bytes_of.get(owner, 0) + size_bytes
        return Body(size_bytes, partial(self._give_back, owner))

    def _give_back(self, owner: str, size_bytes: int) -> None:
        owner_bytes = self._bytes_of.pop(owner, 0) - size_bytes
        if owner_bytes:
            self._bytes_of[owner] = owner_bytes
        self._freed.set()

    def _has_room(self, owner: str, size_bytes: int) -> bool:
        is_own_share = self._bytes_of.get(owner, 0) + size_bytes <= self._owner_bytes_max
        return is_own_share and self.bodies_bytes + size_bytes <= self._bodies_bytes_max

    async def _read(self, request: ServerRequest) -> bytes:
        data = b""
        try:
            if request.body_ended:  # as nearly always: it came with its head, and nothing is waited for
                data = await request.read_piece()
            else:
                async with asyncio.timeout(self._body_s_max):
                    data = await self._read_pieces(request)
        except (TimeoutError, ConnectionError) as exc:
            raise IntakeError(400, "The request body did not arrive whole. Nothing was sent.") from exc
        if len(data) > self._body_bytes_max:
            raise self._too_large()
        return data

    async def _read_pieces(self, request: ServerRequest) -> bytes:
        data = bytearray()
        while (piece := await request.read_piece()) and len(data) <= self._body_bytes_max:
            data += piece
        return bytes(data)

    def _too_large(self) -> IntakeError:
        return IntakeError(
            413, f"The request body is larger than {self._body_bytes_max // 2**20} MiB. Nothing was sent."
        )
