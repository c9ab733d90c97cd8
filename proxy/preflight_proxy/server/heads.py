"""What request heads may occupy before they are served: one of them, and all of this process together (C5).

A parser keeps every field until the head is complete, and a connection keeps the heads that wait behind the request it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

HEAD_BYTES_MAX = 64 * 1024
"""One head, request line included, or the trailers of one body. Claude Code's is the longest seen, below 4 KiB."""
HEADS_BYTES_MAX = 8 * 2**20
"""All heads that are not served yet. One arrives whole, as a rule, and waits for no longer than the loop turns."""


class Heads:
    """The unserved heads of all connections of a process.

    Args:
        head_bytes_max: See `HEAD_BYTES_MAX`.
        heads_bytes_max: See `HEADS_BYTES_MAX`.
    """

    def __init__(self, head_bytes_max: int = HEAD_BYTES_MAX, heads_bytes_max: int = HEADS_BYTES_MAX) -> None:
        self._heads_bytes_max = heads_bytes_max
        self._held_bytes: dict[Held, int] = {}
        self._total_bytes = 0
        self.head_bytes_max = head_bytes_max

    @property
    def total_bytes(self) -> int:
        """What all of them occupy."""
        return self._total_bytes

    def note(self, held: Held, size_bytes: int) -> None:
        """Note what a connection holds now.

        Where all hold too much, those that hold most are ended until a quarter is free: who sends one head at a time, and whole,
        is never among them.
        """
        self._total_bytes += size_bytes - self._held_bytes.pop(held, 0)
        if size_bytes:
            self._held_bytes[held] = size_bytes
        if self._total_bytes > self._heads_bytes_max:
            for each in sorted(self._held_bytes, key=self._held_bytes.__getitem__, reverse=True):
                if self._total_bytes <= self._heads_bytes_max * 3 // 4:
                    break
                each.end()


class Held:
    """What one connection holds: the head that it receives, and complete ones that wait to be served.

    Args:
        heads: Those of all connections.
        on_end: Ends the connection.
    """

    def __init__(self, heads: Heads, on_end: Callable[[], None]) -> None:
        self._heads = heads
        self._on_end = on_end
        self._receiving_bytes = 0
        self._waiting_bytes: deque[int] = deque()

    def received(self, size_bytes: int) -> bool:
        """Bytes came that are no body; False if the head is too large with them."""
        self._receiving_bytes += size_bytes
        self._note()
        return self._receiving_bytes <= self._heads.head_bytes_max

    def completed(self, count: int, size_bytes: int) -> None:
        """With these bytes so many heads became complete: they wait to be served."""
        self._waiting_bytes += [self._receiving_bytes + size_bytes, *[0] * (count - 1)]
        self.body_came()

    def body_came(self) -> None:
        """Body came: no head is under way."""
        self._receiving_bytes = 0
        self._note()

    def served(self) -> None:
        """The head that has waited longest is being served."""
        if self._waiting_bytes:
            self._waiting_bytes.popleft()
        self._note()

    def forget(self) -> None:
        """The connection has ended: it holds nothing."""
        self._receiving_bytes = 0
        self._waiting_bytes.clear()
        self._note()

    def end(self) -> None:
        """End the connection."""
        self.forget()
        self._on_end()

    def _note(self) -> None:
        self._heads.note(self, self._receiving_bytes + sum(self._waiting_bytes))
