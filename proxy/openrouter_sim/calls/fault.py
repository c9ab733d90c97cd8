"""The interface of all faults: hooks at the steps of a call. Each does nothing unless a fault overrides it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import JsonObject

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall
    from openrouter_sim.catalog.models import SimEndpoint


class Cut(Enum):
    """How a connection ends too early."""

    CLOSE = "close"
    """FIN without the end of the chunked body."""
    ABORT = "abort"
    """RST."""
    END = "end"
    """The chunked body ends properly, the events do not."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes of an answer.

    Attributes:
        data: What is written.
        tokens: Completion tokens generated when it is written.
        settles: The provider has finished; the call is charged before this is written.
        wait_s: Pause before it.
        cut: The connection ends after it.
    """

    data: bytes
    tokens: int = 0
    settles: bool = False
    wait_s: float = 0.0
    cut: Cut | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that changes nothing."""

    name: ClassVar[str] = "none"
    is_early: ClassVar[bool] = False
    """Whether it acts before the request's body is read."""
    is_endless: ClassVar[bool] = False
    """Whether its frames may never end. They end when the client leaves."""

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Return an answer given before the body is read."""
        return None

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return an error that is answered instead of the completion."""
        return None

    def offer(self, endpoints: tuple[SimEndpoint, ...]) -> tuple[SimEndpoint, ...]:
        """Return the endpoints that serve, listed or not."""
        return endpoints

    def arrange(self, call: SimCall) -> None:
        """Change the call, after it is priced and before it is answered."""

    def tell_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the usage object to send; None to send none."""
        return usage

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Change the answer's headers."""

    def whole(self, call: SimCall, body: JsonObject) -> JsonObject:
        """Return the body of an answer that is no stream."""
        return body

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Return the frames to send: the events of a stream, or one frame with a whole body."""
        return frames

    def end(self, request: web.Request) -> None:
        """Act after the last byte is written."""
