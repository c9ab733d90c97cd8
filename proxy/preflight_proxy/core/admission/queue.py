"""Calls that wait until their account has enough available, and which is next (M18 (waiting)).

First come, first served: the first call blocks the others for `HEAD_BLOCK_S`. After that, calls that fit may pass it
`PASS_COUNT_MAX` times. So a large call neither waits for ever nor stops all others.
"""

from __future__ import annotations

import msgspec

CALL_WAIT_S_MAX = 45.0
"""The longest wait of a call in all: below the shortest client timeout that was measured, 60 s."""
HEAD_BLOCK_S = 5.0
"""How long the first blocks calls behind it that would fit: about the length of a short completion."""
PASS_COUNT_MAX = 8
"""How often the first may be passed: as many as commonly run side by side; then it is served before all others."""
WAITERS_MAX = 256
"""Waiting calls of one account: more than any agent has open. Further calls are decided at once."""


class _Waiter(msgspec.Struct):
    id: str
    needed_pusd: int
    joined_s: float


class _AccountQueue(msgspec.Struct):
    waiters: list[_Waiter] = []
    head_since_s: float = 0.0
    passed_count: int = 0
    called: str | None = None


class Queue:
    """The waiting calls of all accounts. Moments are monotonic seconds. This class only decides; it does not sleep or wake."""

    def __init__(self) -> None:
        self._lines: dict[str, _AccountQueue] = {}

    def join(self, account: str, waiter_id: str, needed_pusd: int, now_s: float) -> bool:
        """Join the end of an account's queue; return False if the queue is full."""
        line = self._lines.setdefault(account, _AccountQueue())
        if len(line.waiters) >= WAITERS_MAX:
            return False
        assert all(waiter.id != waiter_id for waiter in line.waiters), "a call is in a queue once"
        if not line.waiters:
            line.head_since_s, line.passed_count = now_s, 0
        line.waiters.append(_Waiter(waiter_id, needed_pusd, now_s))
        return True

    def leave(self, account: str, waiter_id: str, now_s: float | None = None) -> None:
        """Leave the queue: admitted, refused or gone. It is no error if the call is not in it.

        A call that `next` returned and that was not the first has passed the first.

        Args:
            account: whose queue.
            waiter_id: who leaves.
            now_s: from when on a new first blocks the others; by default from its joining.
        """
        line = self._lines.get(account)
        if line is None:
            return
        place = next((i for i, waiter in enumerate(line.waiters) if waiter.id == waiter_id), None)
        if place is None:
            return
        del line.waiters[place]
        if not line.waiters:
            del self._lines[account]
        elif place == 0:
            line.head_since_s = line.waiters[0].joined_s if now_s is None else now_s
            line.passed_count = 0
        elif line.called == waiter_id:
            line.passed_count += 1

    def next(self, account: str, available_pusd: int, now_s: float, *, first_has_tried: bool = False) -> str | None:
        """Return the call that may try now with this much available; None if there is none. A second call returns the same.

        Args:
            account: whose queue.
            available_pusd: what a call may need.
            now_s: now.
            first_has_tried: something else than money stops the first, such as its exposure (M24).
        """
        line = self._lines.get(account)
        if line is None:
            return None
        may_pass = now_s - line.head_since_s >= HEAD_BLOCK_S and line.passed_count < PASS_COUNT_MAX
        may_try = line.waiters[first_has_tried:] if may_pass else line.waiters[:1]
        line.called = next((waiter.id for waiter in may_try if waiter.needed_pusd <= available_pusd), None)
        return line.called

    def waiting(self, account: str) -> list[str]:
        """Return the waiting calls of an account, in their order."""
        line = self._lines.get(account)
        return [] if line is None else [waiter.id for waiter in line.waiters]
