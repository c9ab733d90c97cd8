"""Streams that fail, stop, or never end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError, StreamError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.events import COMMENT, DONE
from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall

PIECE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class CommentDrip(Fault):
    """Send `after` events, and then comments without end, one every `every_s`."""

    name: ClassVar[str] = "comment_drip"
    is_endless: ClassVar[bool] = True
    after: int = 1
    every_s: float = 1.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then comments."""
        if not call.request.stream:
            yield from frames
            return
        tokens = 0
        for frame in islice(frames, self.after):
            tokens = frame.tokens
            yield frame
        while True:
            yield Frame(COMMENT, tokens, wait_s=self.every_s)


@dataclass(frozen=True, slots=True)
class NeverEnds(Fault):
    """Send all deltas, and then empty ones without end. The usage never comes.

    Attributes:
        every_s: Pause between two empty deltas.
    """

    name: ClassVar[str] = "never_ends"
    is_endless: ClassVar[bool] = True
    every_s: float = 0.01

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield all events before the usage, and then empty deltas."""
        if not call.request.stream:
            yield from frames
            return
        last = Frame(b"")
        for frame in frames:
            if frame.settles:
                break
            last = frame
            yield frame
        while True:
            yield Frame(call.shape.delta(call, ""), last.tokens, wait_s=self.every_s)


@dataclass(frozen=True, slots=True)
class ErrorFirst(Fault):
    """Send status 200 and only an error: an event in a stream, else a body with `error`.

    Attributes:
        done: A stream still ends in `[DONE]`.
        charge: The prompt is charged.
    """

    name: ClassVar[str] = "error_first"
    code: str = "server_error"
    message: str = "Provider disconnected"
    done: bool = False
    charge: bool = False

    def arrange(self, call: SimCall) -> None:
        """Make the outcome an error."""
        call.outcome = "error"
        call.charges_errors = self.charge

    def whole(self, call: SimCall, body: JsonObject) -> JsonObject:
        """Return an error body."""
        return call.shape.error(ApiError(502, self.message), call.shown_id)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the error event."""
        if not call.request.stream:
            yield from frames
            return
        yield Frame(call.shape.stream_error(call, StreamError(self.code, self.message)))
        if self.done:
            yield Frame(DONE)


@dataclass(frozen=True, slots=True)
class ErrorMid(Fault):
    """Send some events, and then an error event that ends the stream.

    Attributes:
        after: How many events come first.
        done: `[DONE]` follows.
        choice_only: Only the finish reason is `error`; there is no error object.
        bare: The event is `{"error": …}` without the other fields of a chunk.
        charge: The tokens generated so far are charged.
    """

    name: ClassVar[str] = "error_mid"
    after: int = 3
    done: bool = False
    choice_only: bool = False
    bare: bool = False
    charge: bool = False
    code: int = 502
    message: str = "Provider disconnected"

    def arrange(self, call: SimCall) -> None:
        """Make the outcome an error."""
        if call.request.stream:
            call.outcome = "error"
            call.charges_errors = self.charge

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then the error."""
        if not call.request.stream:
            yield from frames
            return
        tokens = 0
        for frame in islice(frames, self.after):
            if frame.settles:
                break
            tokens = frame.tokens
            yield frame
        error = StreamError(self.code, self.message, choice_only=self.choice_only, bare=self.bare)
        yield Frame(call.shape.stream_error(call, error), tokens)
        if self.done:
            yield Frame(DONE, tokens)


@dataclass(frozen=True, slots=True)
class HugeEvent(Fault):
    """Send one event of `size_bytes` before the usage."""

    name: ClassVar[str] = "huge_event"
    is_endless: ClassVar[bool] = True
    size_bytes: int = 1 << 30

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames, with the huge event before the usage."""
        for frame in frames:
            if frame.settles and call.request.stream:
                yield from self._event(frame.tokens)
            yield frame

    def _event(self, tokens: int) -> Iterator[Frame]:
        yield Frame(b'data: {"padding":"', tokens)
        for start in range(0, self.size_bytes, PIECE_BYTES):
            yield Frame(b"x" * min(PIECE_BYTES, self.size_bytes - start), tokens)
        yield Frame(b'"}\n\n', tokens)


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Wait `first_s` before the first event and `each_s` before each later one."""

    name: ClassVar[str] = "slow"
    first_s: float = 1.0
    each_s: float = 0.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with pauses."""
        wait_s = self.first_s
        for frame in frames:
            yield replace(frame, wait_s=frame.wait_s + wait_s)
            wait_s = self.each_s


@dataclass(frozen=True, slots=True)
class SilentStream(Fault):
    """Send nothing for `stall_s` after `after` events, and then go on."""

    name: ClassVar[str] = "stall"
    is_endless: ClassVar[bool] = True
    after: int = 3
    stall_s: float = 3600.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with one pause."""
        for count, frame in enumerate(frames):
            yield replace(frame, wait_s=frame.wait_s + self.stall_s) if count == self.after else frame
