"""Answers that fail, stop, never end, lose their connection, or whose bytes are cut, packed or padded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import ClassVar

from aiohttp import web
from msgspec.structs import replace

from openrouter_sim.base.errors import ApiError, StreamError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import COMMENT, DONE, Cut, Frame, SimCall
from openrouter_sim.calls.scenario import Fault

PIECE_BYTES = 65536


class CommentDrip(Fault, frozen=True):
    """Send `after` events, and then comments without end, one every `every_s`."""

    is_endless: ClassVar[bool] = True
    after: int = 1
    every_s: float = 1.0

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then comments."""
        tokens = 0
        for frame in islice(frames, self.after):
            tokens = frame.tokens
            yield frame
        while True:
            yield Frame(COMMENT, tokens, wait_s=self.every_s)


class NeverEnds(Fault, frozen=True):
    """Send all deltas, and then empty ones without end. The usage never comes.

    Attributes:
        every_s: Pause between two empty deltas.
    """

    is_endless: ClassVar[bool] = True
    every_s: float = 0.01

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield all events before the usage, and then empty deltas."""
        last = Frame(b"")
        for frame in frames:
            if frame.settles:
                break
            last = frame
            yield frame
        while True:
            yield Frame(call.shape.delta(call, ""), last.tokens, wait_s=self.every_s)


class ErrorFirst(Fault, frozen=True):
    """Send status 200 and only an error: an event in a stream, else a body with `error`.

    Attributes:
        done: A stream still ends in `[DONE]`.
        charge: The prompt is charged.
    """

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

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the error event."""
        yield Frame(call.shape.stream_error(call, StreamError(self.code, self.message)))
        if self.done:
            yield Frame(DONE)


class ErrorMid(Fault, frozen=True):
    """Send some events, and then an error event that ends the stream.

    Attributes:
        after: How many events come first.
        done: `[DONE]` follows.
        choice_only: Only the finish reason is `error`; there is no error object.
        bare: The event is `{"error": …}` without the other fields of a chunk.
        charge: The tokens generated so far are charged.
    """

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

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the first events, then the error."""
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


class HugeEvent(Fault, frozen=True):
    """Send one event of `size_bytes` before the usage."""

    is_endless: ClassVar[bool] = True
    size_bytes: int = 1 << 30

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the events, with the huge event before the usage."""
        for frame in frames:
            if frame.settles:
                yield from self._event(frame.tokens)
            yield frame

    def _event(self, tokens: int) -> Iterator[Frame]:
        yield Frame(b'data: {"padding":"', tokens)
        for start in range(0, self.size_bytes, PIECE_BYTES):
            yield Frame(b"x" * min(PIECE_BYTES, self.size_bytes - start), tokens)
        yield Frame(b'"}\n\n', tokens)


class Slow(Fault, frozen=True):
    """Wait `first_s` before the first event and `each_s` before each later one."""

    first_s: float = 1.0
    each_s: float = 0.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with pauses."""
        wait_s = self.first_s
        for frame in frames:
            yield replace(frame, wait_s=frame.wait_s + wait_s)
            wait_s = self.each_s


class Stall(Fault, frozen=True):
    """Send nothing for `stall_s` after `after` events, and then go on."""

    is_endless: ClassVar[bool] = True
    after: int = 3
    stall_s: float = 3600.0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames with one pause."""
        for count, frame in enumerate(frames):
            yield replace(frame, wait_s=frame.wait_s + self.stall_s) if count == self.after else frame


class SilentClose(Fault, frozen=True):
    """Close the connection in the middle of an answer. The provider decides if the rest is charged.

    Attributes:
        after: How many events come first; a body that is no stream is cut in its middle.
        clean: The chunked body ends properly.
    """

    after: int = 3
    clean: bool = False

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the end."""
        return _cut_after(call, frames, self.after, Cut.END if self.clean else Cut.CLOSE)


class Reset(Fault, frozen=True):
    """Reset the connection in the middle of an answer. The provider decides if the rest is charged.

    Attributes:
        after: How many events come first; 0 resets right after the headers.
    """

    after: int = 3

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what comes before the reset."""
        return _cut_after(call, frames, self.after, Cut.ABORT)


class CloseOnRequest(Fault, frozen=True):
    """Reset the connection when the request arrives, as a server does with an idle connection."""

    is_early: ClassVar[bool] = True

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Reset the connection."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)


class CloseKeepalive(Fault, frozen=True):
    """Send a whole answer on a keep-alive connection, and then close the connection."""

    def end(self, request: web.Request) -> None:
        """Close it."""
        if request.transport is not None:
            request.transport.close()


class Chop(Fault, frozen=True):
    """Send the answer in pieces of 1 to `size_bytes` bytes, cut at any byte."""

    size_bytes: int = 7

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the pieces."""
        sizes = Random(0)
        for frame in frames:
            start = 0
            while start < len(frame.data):
                end = start + sizes.randint(1, self.size_bytes)
                wait_s = 0.0 if start else frame.wait_s
                yield replace(frame, data=frame.data[start:end], cut=None, wait_s=wait_s)
                start = end
            if frame.cut is not None:
                yield Frame(b"", frame.tokens, cut=frame.cut)


class Gzip(Fault, frozen=True):
    """Compress the answer with gzip, also if the client does not accept it; flush each frame."""

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Add `Content-Encoding`."""
        headers["Content-Encoding"] = "gzip"

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames compressed."""
        packer = zlib.compressobj(wbits=31)
        for frame in frames:
            yield replace(frame, data=packer.compress(frame.data) + packer.flush(zlib.Z_SYNC_FLUSH))
        yield Frame(packer.flush(), call.tokens.completion)


class Whitespace(Fault, frozen=True):
    """Send `lines` lines of blanks before a JSON body. Streams stay as they are.

    Source: router-for-me/CLIProxyAPI issue 2690, 2026.
    """

    lines: int = 5

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the blanks first."""
        if not call.request.stream:
            for _ in range(self.lines):
                yield Frame(b"         \n")
        yield from frames


class EchoKey(Fault, frozen=True):
    """Repeat the request's `Authorization` in an error, its metadata and a header; or in a field of the answer.

    Attributes:
        status: The HTTP status. With 200 the call is served, and each event (or the body) has the field `echo`.
        escaped: Every second character is written as a JSON escape.
    """

    status: int = 400
    escaped: bool = False

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error."""
        if self.status == 200:
            return None
        came = self._came(call)
        headers = {"X-Debug-Authorization": came}
        return ApiError(self.status, f"Upstream refused: {came}", metadata={"raw": f"got {came}"}, headers=headers)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Add the field `echo` to every object that has a model."""
        if self.status != 200:
            yield from frames
            return
        came = self._came(call)
        for frame in frames:
            yield replace(frame, data=frame.data.replace(b'"model":', b'"echo":"%b","model":' % came.encode()))

    def _came(self, call: SimCall) -> str:
        came = call.authorization
        if not self.escaped:
            return came
        return "".join(f"\\u{ord(char):04X}" if place % 2 else char for place, char in enumerate(came))


def _cut_after(call: SimCall, frames: Iterator[Frame], after: int, cut: Cut) -> Iterator[Frame]:
    """Yield `after` events of a stream, or half of another body, and then the cut."""
    tokens = 0
    for frame in islice(frames, after):
        if frame.settles and call.request.stream:
            break
        tokens = frame.tokens
        yield frame if call.request.stream else replace(frame, data=frame.data[: len(frame.data) // 2])
    yield Frame(b"", tokens, cut=cut)
