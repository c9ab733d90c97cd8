"""Connections that end too early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

from openrouter_sim.calls.fault import Cut, Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class SilentClose(Fault):
    """Close the connection in the middle of an answer. The provider decides if the rest is charged.

    Attributes:
        after: How many events come first; a body that is no stream is cut in its middle.
        clean: The chunked body ends properly.
    """

    name: ClassVar[str] = "silent_close"
    after: int = 3
    clean: bool = False

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the end."""
        return cut_after(call, frames, self.after, Cut.END if self.clean else Cut.CLOSE)


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Reset the connection in the middle of an answer. The provider decides if the rest is charged.

    Attributes:
        after: How many events come first; 0 resets right after the headers.
    """

    name: ClassVar[str] = "reset"
    after: int = 3

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the reset."""
        return cut_after(call, frames, self.after, Cut.ABORT)


@dataclass(frozen=True, slots=True)
class CloseOnRequest(Fault):
    """Reset the connection when the request arrives, as a server does with an idle connection."""

    name: ClassVar[str] = "close_on_request"
    is_early: ClassVar[bool] = True

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Reset the connection."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)


@dataclass(frozen=True, slots=True)
class CloseKeepalive(Fault):
    """Send a whole answer on a keep-alive connection, and then close the connection."""

    name: ClassVar[str] = "close_keepalive"

    def end(self, request: web.Request) -> None:
        """Close it."""
        if request.transport is not None:
            request.transport.close()


def cut_after(call: SimCall, frames: Iterator[Frame], after: int, cut: Cut) -> Iterator[Frame]:
    """Yield `after` events of a stream, or half of another body, and then the cut."""
    tokens = 0
    for frame in islice(frames, after):
        if frame.settles and call.request.stream:
            break
        tokens = frame.tokens
        yield frame if call.request.stream else replace(frame, data=frame.data[: len(frame.data) // 2])
    yield Frame(b"", tokens, cut=cut)
