"""An upstream that sends its client elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class Redirect(Fault):
    """The call is answered with a redirect; a client that follows takes its key along."""

    name: ClassVar[str] = "redirect"
    status: int = 307
    location: str = "http://127.0.0.1:9/elsewhere"

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the redirect."""
        return ApiError(self.status, "Moved", headers={"Location": self.location})
