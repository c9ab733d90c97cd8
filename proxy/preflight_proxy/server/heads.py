"""Limits the memory of all request heads that are not served yet (C5, open files).

A parser keeps every field until the head is complete, and a connection keeps the heads that wait behind the request that it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

REQUEST_HEAD_BYTES_MAX = 64 * 1024
"""One head, request line included, or the trailers of one body. Claude Code's is the longest seen, below 4 KiB."""
REQUEST_HEADS_BYTES_MAX = 8 * 2**20
"""All heads that are not served yet. Most arrive whole, and are served in the same turn of the loop."""


class UnservedHeads:
    """The unserved request heads of all connections of a process.

    Args:
        head_bytes_max: See `REQUEST_HEAD_BYTES_MAX`.
        heads_bytes_max: See `REQUEST_HEADS_BYTES_MAX`.

    Attributes:
        total_bytes: The memory that all of them take.
    """

    def __init__(
        self, head_bytes_max: int = REQUEST_HEAD_BYTES_MAX, heads_bytes_max: int = REQUEST_HEADS_BYTES_MAX
    ) -> None:
        self._heads_bytes_max = heads_bytes_max
        self._bytes_of: dict[ConnectionHeads, int] = {}
        self.total_bytes = 0
        self.head_bytes_max = head_bytes_max

    def note(self, heads: ConnectionHeads, size_bytes: int) -> None:
        """Note how many bytes of heads a connection keeps now.

        When all keep too much, those that keep most are ended until a quarter is free. A client that sends one whole head at a
        time is never among them.
        """
        self.total_bytes += size_bytes - self._bytes_of.pop(heads, 0)
        if size_bytes:
            self._bytes_of[heads] = size_bytes
        if self.total_bytes > self._heads_bytes_max:
            for largest in sorted(self._bytes_of, key=self._bytes_of.__getitem__, reverse=True):
                if self.total_bytes <= self._heads_bytes_max * 3 // 4:
                    break
                largest.end()


class ConnectionHeads:
    """The heads that one connection keeps: the one that it receives, and complete ones that wait to be served.

    Args:
        heads: Those of all connections.
        on_end: Ends the connection.

    Attributes:
        receiving_bytes: Of the head that it receives.
    """

    __slots__ = ("_heads", "_on_end", "_total_bytes", "_waiting_bytes", "receiving_bytes")

    def __init__(self, heads: UnservedHeads, on_end: Callable[[], None]) -> None:
        self._heads = heads
        self._on_end = on_end
        self.receiving_bytes = 0
        self._waiting_bytes: deque[int] = deque()
        self._total_bytes = 0

    def received(self, size_bytes: int) -> bool:
        """Count bytes that are no body; False if they make the head too large."""
        self.receiving_bytes += size_bytes
        self._note(size_bytes)
        return self.receiving_bytes <= self._heads.head_bytes_max

    def completed(self, count: int, size_bytes: int) -> None:
        """Count heads that these bytes completed: they wait to be served."""
        self._waiting_bytes.append(self.receiving_bytes + size_bytes)
        self._waiting_bytes.extend([0] * (count - 1))
        self.receiving_bytes = 0
        self._note(size_bytes)

    def body_came(self) -> None:
        """Note that body came, so no head is being received."""
        if self.receiving_bytes:
            self._note(-self.receiving_bytes)
            self.receiving_bytes = 0

    def served(self) -> None:
        """Note that the head that has waited longest is served now."""
        if self._waiting_bytes:
            self._note(-self._waiting_bytes.popleft())

    def forget(self) -> None:
        """Keep nothing more: the connection has ended."""
        self.receiving_bytes = 0
        self._waiting_bytes.clear()
        self._note(-self._total_bytes)

    def end(self) -> None:
        """End the connection."""
        self.forget()
        self._on_end()

    def _note(self, more_bytes: int) -> None:
        if more_bytes:
            self._total_bytes += more_bytes
            self._heads.note(self, self._total_bytes)
