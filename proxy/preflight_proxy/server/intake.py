"""Reads request bodies: whole, uncompressed, within limits, and no more at once than memory allows (C5)."""

from __future__ import annotations

import asyncio

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


class Intake:
    """Reads bodies for all connections of one proxy.

    Args:
        body_bytes_max: See `REQUEST_BYTES_MAX`; at most the other two.
        owner_bytes_max: See `OWNER_BYTES_MAX`.
        bodies_bytes_max: See `BODIES_BYTES_MAX`.
        body_s_max: See `BODY_S_MAX`.

    Attributes:
        bodies_bytes: The memory of all bodies in flight.
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
        self.bodies_bytes = 0
        self._freed = asyncio.Event()

    async def read(self, request: ServerRequest, owner: str = "") -> bytes:
        """Read the whole body; its memory is taken until `leave`.

        Args:
            request: Its head is read, its body is not.
            owner: Whose share of the memory it takes, such as an account.

        Raises:
            IntakeError: It is too large (413), compressed (415), too slow or cut short (400).
        """
        headers, size_bytes = request.headers, request.content_length
        if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
            raise IntakeError(415, "Compressed request bodies are not taken. Send the JSON as it is.")
        if size_bytes is None:
            size_bytes = self._body_bytes_max  # its length is known at its end
        elif size_bytes > self._body_bytes_max:
            raise self._too_large()
        while (owner_bytes := self._bytes_of.get(owner, 0) + size_bytes) > self._owner_bytes_max or (
            self.bodies_bytes + size_bytes > self._bodies_bytes_max
        ):
            self._freed.clear()
            await self._freed.wait()
        self._bytes_of[owner] = owner_bytes
        self.bodies_bytes += size_bytes
        try:
            if request.body_ended:  # as nearly always: it came with its head, and nothing is waited for
                data = await request.read_piece()
            else:
                async with asyncio.timeout(self._body_s_max):
                    data = await self._read_pieces(request)
            spare_bytes = size_bytes - len(data)
            if spare_bytes < 0:
                raise self._too_large()
        except BaseException as exc:
            self.leave(size_bytes, owner)
            if isinstance(exc, TimeoutError | ConnectionError):
                raise IntakeError(400, "The request body did not arrive whole. Nothing was sent.") from exc
            raise
        if spare_bytes:
            self.leave(spare_bytes, owner)
        return data

    def leave(self, size_bytes: int, owner: str = "") -> None:
        """Give the memory of a body back: nobody uses it any more."""
        self.bodies_bytes -= size_bytes
        owner_bytes = self._bytes_of.pop(owner, 0) - size_bytes
        if owner_bytes:
            self._bytes_of[owner] = owner_bytes
        self._freed.set()

    async def _read_pieces(self, request: ServerRequest) -> bytes:
        pieces: list[bytes] = []
        size_bytes = 0
        while size_bytes <= self._body_bytes_max and (piece := await request.read_piece()):
            pieces.append(piece)
            size_bytes += len(piece)
        return b"".join(pieces)

    def _too_large(self) -> IntakeError:
        return IntakeError(
            413, f"The request body is larger than {self._body_bytes_max // 2**20} MiB. Nothing was sent."
        )
