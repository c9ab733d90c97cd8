"""Answers whose bytes are cut, packed, padded, or hold the key of the caller."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Chop(Fault):
    """Send the answer in pieces of 1 to `size_bytes` bytes, cut at any byte.

    Attributes:
        pause_s: Pause between two pieces, so that the network does not join them.
        seed: Seed of the sizes.
    """

    name: ClassVar[str] = "chop"
    size_bytes: int = 7
    pause_s: float = 0.0
    seed: int = 0

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the pieces."""
        sizes = Random(self.seed)
        for frame in frames:
            start = 0
            while start < len(frame.data):
                end = start + sizes.randint(1, self.size_bytes)
                piece = replace(frame, data=frame.data[start:end], cut=None)
                yield replace(piece, wait_s=frame.wait_s if start == 0 else self.pause_s)
                start = end
            if frame.cut is not None:
                yield Frame(b"", frame.tokens, cut=frame.cut)


@dataclass(frozen=True, slots=True)
class GzipBody(Fault):
    """Compress the answer with gzip, also if the client does not accept it; flush each frame."""

    name: ClassVar[str] = "gzip"

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Add `Content-Encoding`."""
        headers["Content-Encoding"] = "gzip"

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames compressed."""
        packer = zlib.compressobj(wbits=31)
        for frame in frames:
            yield replace(frame, data=packer.compress(frame.data) + packer.flush(zlib.Z_SYNC_FLUSH))
        yield Frame(packer.flush(), call.tokens.completion)


@dataclass(frozen=True, slots=True)
class Whitespace(Fault):
    """Send `lines` lines of blanks before a JSON body. Streams stay as they are.

    Source: router-for-me/CLIProxyAPI issue 2690, 2026.
    """

    name: ClassVar[str] = "whitespace"
    lines: int = 5

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the blanks first."""
        if not call.request.stream:
            for _ in range(self.lines):
                yield Frame(b"         \n")
        yield from frames


@dataclass(frozen=True, slots=True)
class EchoKey(Fault):
    """Repeat the request's `Authorization` in an error, its metadata and a header; or in a field of the answer.

    Attributes:
        status: The HTTP status. With 200 the call is served, and each event (or the body) has the field `echo`.
        escaped: Every second character is written as a JSON escape.
    """

    name: ClassVar[str] = "echo_key"
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
