"""Work that is done in steps, so that a long request does not hold the event loop.

A generator yields `None` where others may go on, and a function where something may take long in one piece: whoever runs the steps
calls that function, in a thread if there is an event loop, and sends its result back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")

Steps: TypeAlias = Generator[Callable[[], Any] | None, Any, Result]

STEP_COST = 256 * 1024
"""The work between two yields, in bytes of text at first sight: about 2 ms."""
KNOWN_MESSAGE_COST, NEW_MESSAGE_COST = 128, 2048
"""What a message costs besides its text, in the same unit."""
KNOWN_TEXT_DIVISOR = 8
"""Text that is only cut or hashed costs so much less than text that is decoded and counted."""
LONG_BYTES, LONG_VALUES = 256 * 1024, 2000
"""One value with more bytes or more commas is decoded in a thread."""


def run_steps(steps: Steps[Result]) -> Result:
    """Do all steps at once and return their result."""
    reply: Any = None
    try:
        while True:
            work = steps.send(reply)
            reply = None if work is None else work()
    except StopIteration as end:
        result: Result = end.value
        return result


def apart(work: Callable[[], Result], *texts: bytes) -> Steps[Result]:
    """Return what `work` returns; it is yielded where it reads long texts."""
    is_long = any(len(text) > LONG_BYTES or text.count(b",") > LONG_VALUES for text in texts)
    result: Result = (yield work) if is_long else work()
    return result
