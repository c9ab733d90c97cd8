"""Keep-alive whitespace ahead of a JSON body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.calls.fault import Fault, Frame

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Whitespace(Fault):
    """A whole body is preceded by `lines` lines of blanks; streams are left alone.

    Source: router-for-me/CLIProxyAPI issue 2690, 2026.
    """

    name: ClassVar[str] = "whitespace"
    lines: int = 5

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the blanks first."""
        if not call.ask.stream:
            for _ in range(self.lines):
                yield Frame(b"         \n")
        yield from frames
