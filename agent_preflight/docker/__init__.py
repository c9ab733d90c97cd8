"""Containers and images, by Docker's Engine API: the sandbox of an agent, its gate, and the removal of both.

The names below are imported when they are first used. `run_container` is that of `agent_preflight.runner`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_preflight.docker.images import build_image, image_exists, remove_container

__all__ = ["build_image", "image_exists", "remove_container", "run_container"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "agent_preflight.runner" if name == "run_container" else "agent_preflight.docker.images"
    return getattr(importlib.import_module(home), name)
