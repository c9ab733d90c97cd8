"""Compressed answers, asked for or not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class GzipBody(Fault):
    """The answer is gzip, every frame flushed."""

    name: ClassVar[str] = "gzip"

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Say so."""
        headers["Content-Encoding"] = "gzip"

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames compressed."""
        packer = zlib.compressobj(wbits=31)
        for frame in frames:
            yield replace(frame, data=packer.compress(frame.data) + packer.flush(zlib.Z_SYNC_FLUSH))
        yield Frame(packer.flush(), call.tokens.completion)
