"""The functions that a script may replace by assigning to the package.

``agent_preflight.get_usage``, ``.provision_key``, ``.get_available_models`` and ``.get_account_balance`` are looked up at each
call, so the library uses a replacement from then on. So is ``agent_preflight.provision.OR_BASE``.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

OR_BASE = "https://openrouter.ai/api/v1"
"""OpenRouter's API base, unless an argument or OPENROUTER_BASE_URL names another."""

R = TypeVar("R")


def replacement(function: Callable[..., R]) -> Callable[..., R] | None:
    """Return the function that a script has assigned to the package under this one's name; None if there is none.

    An assigned value that cannot be called is ignored. A test's stand-in in our module may have no name: nothing replaces it.
    """
    assigned: Any = vars(sys.modules["agent_preflight"]).get(getattr(function, "__name__", ""))
    return assigned if callable(assigned) and assigned is not function else None


def read(reader: Callable[..., R], key: str, base_url: str | None) -> R:
    """Call one of our functions that read with a key, or a script's replacement, which takes the key and nothing else."""
    replaced = replacement(reader)
    return reader(key, base_url=base_url) if replaced is None else replaced(key)


def default_base_url() -> str:
    """Return ``provision.OR_BASE``, which a script may have set: the API base if no argument and no variable names one."""
    return str(getattr(sys.modules.get("agent_preflight.provision"), "OR_BASE", OR_BASE))
