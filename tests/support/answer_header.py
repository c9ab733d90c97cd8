"""A fault of the simulator: an answer with one more header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openrouter_sim.calls.scenario import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


class Headed(Fault, frozen=True):
    """An answer with a header of its own."""

    header: str = ""
    value: str = ""

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Set it."""
        headers[self.header] = self.value
