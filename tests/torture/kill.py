"""A proxy that is killed right before or after a step of a call (M10), at the n-th time; or whose disk is full from then on.

Usage: python -m tests.torture.kill STEP WHEN PASSAGE [full], settings on stdin as for `python -m preflight_proxy`. The product has
no hook for this: the methods of these steps are wrapped here.
"""

from __future__ import annotations

import inspect
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preflight_proxy.__main__ import main
from preflight_proxy.core.ledger.commands import Post, Reserve, SetGeneration
from preflight_proxy.ledger import tables
from preflight_proxy.ledger.files import BudgetFiles, CostLog
from preflight_proxy.ledger.store import Statement, Store
from preflight_proxy.server.response import ClientResponse
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.connection import UpstreamConnection


@dataclass(frozen=True, slots=True)
class Seam:
    """A method that a call runs, and which of its runs count.

    Attributes:
        owner: The class.
        method: Its method.
        counts: Whether a run counts, by its first argument.
    """

    owner: type[Any]
    method: str
    counts: Callable[[Any], bool] = lambda _first: True


def _adds(sql: str) -> Callable[[Sequence[Statement]], bool]:
    return lambda statements: any(statement[0] == sql for statement in statements)


SEAMS = {
    "reserve": Seam(Store, "commit", lambda command: isinstance(command, Reserve)),
    "reserve-row": Seam(Store, "_transact", _adds(tables.ADD_RESERVATION)),
    "first-byte": Seam(UpstreamConnection, "send", lambda head: head.startswith(b"POST ")),
    "send": Seam(Upstream, "post"),
    "id": Seam(Store, "commit", lambda command: isinstance(command, SetGeneration)),
    "head": Seam(ClientResponse, "start"),
    "relay": Seam(ClientResponse, "write"),
    "post": Seam(Store, "commit", lambda command: isinstance(command, Post)),
    "post-row": Seam(Store, "_transact", _adds(tables.ADD_ENTRY)),
    "end": Seam(ClientResponse, "finish"),
    "line": Seam(CostLog, "append"),
    "budget-file": Seam(BudgetFiles, "write"),
}
"""The `-row` steps are the INSERT itself: after it the row is durable, and nothing in memory has followed."""


def arm(seam: Seam, when: str, passage: int, strike: Callable[[], None]) -> None:
    """Call `strike` in this process at a run of a step."""
    original = getattr(seam.owner, seam.method)
    passages = itertools.count(1)

    def due(arguments: tuple[Any, ...]) -> bool:
        return seam.counts(arguments[0] if arguments else None) and next(passages) == passage

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        struck = due(arguments)
        if struck and when == "before":
            strike()
        result = original(self, *arguments, **named)
        if struck and when == "after":
            strike()
        return result

    async def wrapped_async(self: Any, *arguments: Any, **named: Any) -> Any:
        struck = due(arguments)
        if struck and when == "before":
            strike()
        result = await original(self, *arguments, **named)
        if struck and when == "after":
            strike()
        return result

    setattr(seam.owner, seam.method, wrapped_async if inspect.iscoroutinefunction(original) else wrapped)


def die() -> None:
    """End this process as a power cut does: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    """Refuse every further byte to all files of this process, as a full disk does."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))


if __name__ == "__main__":
    arm(SEAMS[sys.argv[1]], sys.argv[2], int(sys.argv[3]), fill if sys.argv[4:] == ["full"] else die)
    sys.exit(main())
