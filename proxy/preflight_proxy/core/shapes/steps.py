"""Work that is done in steps, so that a long request does not hold the event loop.

A generator yields `None` where others may go on, and a function where something may take long in one piece: whoever runs the steps
calls that function, in a thread if there is an event loop, and sends its result back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")

Steps: TypeAlias = Generator[Callable[[], Any] | None, Any, Result]

STEP_COST = 128 * 1024
"""The work between two yields, in bytes of text at first sight: about 1 ms. One value that costs more is decoded in a thread."""
VALUE_COST = 64
"""What a value of a text costs besides its bytes, in the same unit."""
NEW_MESSAGE_COST, KNOWN_MESSAGE_COST = 2048, 128
"""What a message costs besides its text."""


def text_cost(text: bytes) -> int:
    """Return what it costs to decode and count a text; of one that is long in any case, the least."""
    if len(text) > STEP_COST:
        return len(text)
    return len(text) + VALUE_COST * (len(text) - len(text.translate(None, b",[{")))


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


def apart(work: Callable[[], Result], cost: int) -> Steps[Result]:
    """Return what `work` returns; it is yielded if it costs more than a step."""
    result: Result = (yield work) if cost > STEP_COST else work()
    return result
