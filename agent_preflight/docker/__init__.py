"""Containers: the gate, the agent's sandbox, images, the sweep; all of it by Docker's Engine API.

The names that scripts use are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_preflight.docker.images import build_image, image_exists, remove_container

__all__ = ["build_image", "image_exists", "remove_container", "run_container"]

_HOMES = {
    "build_image": "agent_preflight.docker.images",
    "image_exists": "agent_preflight.docker.images",
    "remove_container": "agent_preflight.docker.images",
    "run_container": "agent_preflight.runner",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
