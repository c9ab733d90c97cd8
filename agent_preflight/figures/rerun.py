"""The exact configuration of a run, to do it again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Rerun(msgspec.Struct, frozen=True):
    """How to do a run again.

    Attributes:
        command: For a shell.
        toml: The text of a preflight.toml; empty if the plan cannot be read.
        notes: What the file cannot hold.
    """

    command: str
    toml: str
    notes: tuple[str, ...] = ()


def rerun_of(plan: Mapping[str, Any], run_id: str) -> Rerun:
    """Return how to do a run again, from its plan.json."""
    return Rerun("agent-preflight run --config preflight.toml", "", ())
