"""What a mount's source and an agent's arguments may hold for each trial to replace: `{alias}`, `{model}`, `{run_id}`. Pure.

Only these three, exactly so: any other text in braces stays as it is, because arguments hold JSON and code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACE = re.compile(r"\{(alias|model|run_id)\}")
_NOT_IN_A_PATH = re.compile(r"[/:]")
"""A slash would make a folder more, a colon would end a mount's source."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the three stand for in one trial."""

    alias: str
    model: str
    run_id: str

    def in_argument(self, text: str) -> str:
        """Return an argument with each of them replaced."""
        return _PLACE.sub(lambda found: str(getattr(self, found[1])), text)

    def in_mount(self, mount: str) -> str:
        """Return a mount in docker's form with each of them replaced in its source; slashes and colons of a model are `-` there."""
        source, colon, rest = mount.partition(":")
        return _PLACE.sub(lambda found: _NOT_IN_A_PATH.sub("-", str(getattr(self, found[1]))), source) + colon + rest
