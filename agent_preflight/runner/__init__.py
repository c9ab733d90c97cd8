"""Runs many agents, each in its own sandbox, under a budget that none can pass.

The functions are imported when they are first used, so that the modules of this folder load no HTTP library by themselves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from agent_preflight.artifacts import RUNS_DIR

if TYPE_CHECKING:
    from agent_preflight.runner.api import arun_multi, run_container, run_multi, run_single

__all__ = ["RUNS_DIR", "arun_multi", "run_container", "run_multi", "run_single"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.api"), name)
