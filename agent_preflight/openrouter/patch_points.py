"""The functions that a script may replace by assigning to the package.

``agent_preflight.get_usage``, ``.provision_key``, ``.get_available_models`` and ``.get_account_balance`` are looked up
at each call, so that a replacement holds for all that the library does from then on. So is ``agent_preflight.provision.OR_BASE``.
"""

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

OR_BASE = "https://openrouter.ai/api/v1"
"""Where OpenRouter is, unless an argument or OPENROUTER_BASE_URL says otherwise."""

P = ParamSpec("P")
R = TypeVar("R")


def in_force(function: Callable[P, R]) -> Callable[P, R]:
    """Return what a script has assigned to the package under this function's name, else the function itself.

    An assigned value that cannot be called is ignored.
    """
    replacement = vars(sys.modules["agent_preflight"]).get(getattr(function, "__name__", ""))
    return cast(Callable[P, R], replacement) if callable(replacement) else function


def is_replaced(function: Callable[P, R]) -> bool:
    """Tell whether a script has replaced this function."""
    return in_force(function) is not function


def read(reader: Callable[..., R], key: str, base_url: str | None) -> R:
    """Call one of our functions that read with a key, or a script's replacement, which takes the key and nothing else."""
    return in_force(reader)(key) if is_replaced(reader) else reader(key, base_url=base_url)


def default_base_url() -> str:
    """Return the API's address where neither argument nor environment names one: ``provision.OR_BASE``, if a script set it."""
    return str(getattr(sys.modules.get("agent_preflight.provision"), "OR_BASE", OR_BASE))
